/* main.c: the program. Its commands stand in commands.c. */
#include "base/clock.h"
#include "cli/cli.h"

int main(int argc, char **argv)
{
    cli_start_ns = sl_now_ns();
    return cli_main(argc, argv);
}
