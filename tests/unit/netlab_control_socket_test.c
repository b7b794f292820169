#include "netlab/control_socket.h"
#include "base/mem.h"
#include "support/temp_dir.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#define SOCKET "control.sock"
#define CUT_ANSWER "{\"ok\":true,\"links\":2}\n"

static struct fabric *two_ports(void)
{
    struct fabric *fabric = NULL;
    assert_int_equal(fabric_create(1, &fabric), SL_OK);
    assert_int_equal(fabric_add_port(fabric, "a", 0, NULL), SL_OK);
    assert_int_equal(fabric_add_port(fabric, "b", 0, NULL), SL_OK);
    return fabric;
}

static int connect_client(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", temp_path(SOCKET));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void send_text(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* What the server has sent by now; "" when it has closed, NULL for nothing. */
static const char *receive(int fd)
{
    static char text[4096];
    ssize_t n = recv(fd, text, sizeof text - 1, MSG_DONTWAIT);
    if (n < 0) return NULL;
    text[n] = '\0';
    return text;
}

/* Each turn accepts, reads or writes once a client at most; the server never waits. */
static void run(struct control_socket *server)
{
    for (int i = 0; i < 8; i++) control_socket_run(server);
}

static void begin(struct control_socket *server)
{
    assert_int_equal(control_socket_init(server, temp_path(SOCKET), two_ports(), NULL), SL_OK);
}

static void end(struct control_socket *server)
{
    fabric_destroy(server->fabric);
    control_socket_done(server);
}

static void only_the_owner_may_connect(void **state)
{
    struct control_socket server;
    struct stat status;
    (void)state;
    begin(&server);
    assert_int_equal(stat(temp_path(SOCKET), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    end(&server);
}

static void lines_come_in_pieces_and_together(void **state)
{
    struct control_socket server;
    (void)state;
    begin(&server);
    int fd = connect_client();
    send_text(fd, "cut a ");
    run(&server);
    assert_null(receive(fd));
    send_text(fd, "b\nheal a b\nfly\ncut");
    run(&server);
    const char *text = receive(fd);
    assert_int_equal(strncmp(text, CUT_ANSWER CUT_ANSWER, 2 * strlen(CUT_ANSWER)), 0);
    assert_non_null(strstr(text, "\"ok\":false"));
    assert_null(receive(fd));
    send_text(fd, " a b\n");
    run(&server);
    assert_string_equal(receive(fd), CUT_ANSWER);
    close(fd);
    run(&server);
    end(&server);
}

static void a_line_without_end_ends_the_connection(void **state)
{
    struct control_socket server;
    char line[CONTROL_LINE_MAX + 2];
    (void)state;
    begin(&server);
    int fd = connect_client(), other = connect_client();
    memset(line, 'x', sizeof line);
    line[sizeof line - 1] = '\0';
    send_text(fd, line);
    run(&server);
    assert_string_equal(receive(fd), "");
    send_text(other, "cut a b\n");
    run(&server);
    assert_string_equal(receive(other), CUT_ANSWER);
    close(fd);
    close(other);
    end(&server);
}

static void who_does_not_read_is_not_read_from(void **state)
{
    struct control_socket server;
    struct timeval patience = {.tv_usec = 1};
    size_t n_sent = 0;
    (void)state;
    begin(&server);
    int fd = connect_client();
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    for (int i = 0; i < 100000; i++) {
        if (send(fd, "stats\n", 6, MSG_NOSIGNAL | MSG_DONTWAIT) != 6) break;
        n_sent++;
        control_socket_run(&server);
    }
    assert_true(n_sent < 100000);
    size_t n_answers = 0;
    for (int i = 0; i < 1000000 && n_answers < n_sent; i++) {
        control_socket_run(&server);
        const char *text = receive(fd);
        for (; text && *text; text++) n_answers += *text == '\n';
    }
    assert_int_equal(n_answers, n_sent);
    close(fd);
    end(&server);
}

static void one_client_too_many_is_turned_away(void **state)
{
    struct control_socket server;
    int fds[CONTROL_CLIENTS_MAX + 1];
    (void)state;
    begin(&server);
    for (int i = 0; i <= CONTROL_CLIENTS_MAX; i++) {
        fds[i] = connect_client();
        run(&server);
    }
    assert_string_equal(receive(fds[CONTROL_CLIENTS_MAX]), "");
    close(fds[0]);
    close(fds[CONTROL_CLIENTS_MAX]);
    run(&server);
    fds[0] = connect_client();
    send_text(fds[0], "cut a b\n");
    run(&server);
    assert_string_equal(receive(fds[0]), CUT_ANSWER);
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) close(fds[i]);
    end(&server);
}

static void what_cannot_be_is_told_and_leaves_nothing(void **state)
{
    struct control_socket server;
    char path[200];
    uint64_t live = sl_mem_live();
    (void)state;
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_int_equal(control_socket_init(&server, path, NULL, NULL), SL_INVALID);
    assert_int_not_equal(control_socket_init(&server, temp_path("no/such"), NULL, NULL), SL_OK);
    assert_int_equal(sl_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_the_owner_may_connect, temp_dir_setup,
                                        temp_dir_teardown),
        cmocka_unit_test_setup_teardown(lines_come_in_pieces_and_together, temp_dir_setup,
                                        temp_dir_teardown),
        cmocka_unit_test_setup_teardown(a_line_without_end_ends_the_connection, temp_dir_setup,
                                        temp_dir_teardown),
        cmocka_unit_test_setup_teardown(who_does_not_read_is_not_read_from, temp_dir_setup,
                                        temp_dir_teardown),
        cmocka_unit_test_setup_teardown(one_client_too_many_is_turned_away, temp_dir_setup,
                                        temp_dir_teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_is_told_and_leaves_nothing, temp_dir_setup,
                                        temp_dir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
