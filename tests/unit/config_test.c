/* config_test.c: one option table, parsed, refused, shown as help and as reference. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "base/config.h"
#include "base/mem.h"

struct settings {
    bool verbose, color;
    int64_t threads, seed, cache;
    double temp;
    const char *out;
    int kind;
    struct sl_opt_ints tokens;
    struct sl_opt_strings labels;
};

#define AT(field) offsetof(struct settings, field)

static const struct sl_opt opts[] = {
    {.name = "threads",
     .letter = 't',
     .type = SL_OPT_INT,
     .offset = AT(threads),
     .min = 1,
     .max = 512,
     .value = "N",
     .initial = "2",
     .help = "Threads to compute with."},
    {.name = "temp",
     .type = SL_OPT_FLOAT,
     .offset = AT(temp),
     .min = 0,
     .max = 2,
     .value = "T",
     .initial = "0.8",
     .help = "Temperature of sampling; 0 takes the likeliest token."},
    {.name = "seed",
     .type = SL_OPT_INT,
     .offset = AT(seed),
     .value = "N",
     .help = "Seed of the random choice."},
    {.name = "cache",
     .letter = 'c',
     .type = SL_OPT_BYTES,
     .offset = AT(cache),
     .min = 1024,
     .max = INFINITY,
     .value = "BYTES",
     .initial = "64K",
     .help = "Memory for keys and values."},
    {.name = "kind",
     .type = SL_OPT_ENUM,
     .offset = AT(kind),
     .value = "TYPE",
     .choices = "f16,q8_0,f32",
     .initial = "q8_0",
     .help = "Type of the cache | its numbers."},
    {.name = "tokens",
     .type = SL_OPT_INTS,
     .offset = AT(tokens),
     .min = 0,
     .max = 100000,
     .value = "IDS",
     .help = "Prompt as token ids."},
    {.name = "label",
     .letter = 'l',
     .type = SL_OPT_STRINGS,
     .offset = AT(labels),
     .value = "K=V",
     .help = "A label; may be given several times."},
    {.name = "out",
     .letter = 'o',
     .type = SL_OPT_STRING,
     .offset = AT(out),
     .value = "FILE",
     .help = "Where to write."},
    {.name = "verbose",
     .letter = 'v',
     .type = SL_OPT_BOOL,
     .offset = AT(verbose),
     .help = "Say more."},
    {.name = "color",
     .letter = 'k',
     .type = SL_OPT_BOOL,
     .offset = AT(color),
     .initial = "true",
     .help = "Use colours on a terminal, which makes this sentence long enough that it has to be "
             "wrapped somewhere."},
    {0},
};

static const struct sl_command command = {
    .name = "run",
    .usage = "MODEL [PROMPT]",
    .summary = "Runs a model.",
    .details = "First paragraph\nfilled.\n\n    starlane run   kept as it is\n\nLast.",
    .opts = opts,
    .n_args_min = 1,
    .n_args_max = 2,
};

static struct settings settings;
static struct sl_err err;
static const char *args[32];
static int n_args;
static bool help;

/* Parses "run" and the given words, which end with NULL. */
static sl_status parse(const char *word, ...)
{
    static char program[] = "run";
    char *argv[32] = {program};
    int argc = 1;
    va_list words;
    va_start(words, word);
    for (; word && argc < 31; word = va_arg(words, const char *))
        argv[argc++] = (char *)(uintptr_t)word;
    va_end(words);
    memset(&settings, 0xee, sizeof settings);
    err = (struct sl_err)SL_ERR_INIT;
    return sl_config_parse(&command, argc, argv, &settings, args, &n_args, &help, &err);
}

static void assert_refused(sl_status status, const char *message)
{
    assert_int_equal(status, SL_INVALID);
    assert_int_equal(err.status, SL_INVALID);
    assert_string_equal(err.text, message);
}

static void defaults_fill_every_field(void **state)
{
    (void)state;
    assert_int_equal(parse("m", NULL), SL_OK);
    assert_int_equal(settings.threads, 2);
    assert_true(settings.temp == 0.8);
    assert_int_equal(settings.seed, 0);
    assert_int_equal(settings.cache, 65536);
    assert_int_equal(settings.kind, 1);
    assert_int_equal(settings.tokens.n, 0);
    assert_int_equal(settings.labels.n, 0);
    assert_null(settings.out);
    assert_false(settings.verbose);
    assert_true(settings.color);
    assert_false(help);
}

static void every_way_to_write_an_option(void **state)
{
    (void)state;
    assert_int_equal(
        parse("--threads", "4", "--temp=1.5", "-c2M", "-o", "-", "m", "-v", "--no-color", NULL),
        SL_OK);
    assert_int_equal(settings.threads, 4);
    assert_true(settings.temp == 1.5);
    assert_int_equal(settings.cache, 2 << 20);
    assert_string_equal(settings.out, "-");
    assert_true(settings.verbose);
    assert_false(settings.color);
    assert_int_equal(n_args, 1);

    assert_int_equal(
        parse("-vkt8", "m", "--seed", "-5", "--kind=f32", "--verbose=false", "--out=", NULL),
        SL_OK);
    assert_int_equal(settings.threads, 8);
    assert_int_equal(settings.seed, -5);
    assert_int_equal(settings.kind, 2);
    assert_false(settings.verbose);
    assert_string_equal(settings.out, "");

    assert_int_equal(parse("m", "-t", "3", "--threads=5", NULL), SL_OK);
    assert_int_equal(settings.threads, 5); /* the last one counts */
}

static void arguments_keep_their_order(void **state)
{
    (void)state;
    assert_int_equal(parse("model", "-v", "--", "--temp", NULL), SL_OK);
    assert_int_equal(n_args, 2);
    assert_string_equal(args[0], "model");
    assert_string_equal(args[1], "--temp");
    assert_int_equal(parse("-", "", NULL), SL_OK);
    assert_string_equal(args[0], "-");
    assert_string_equal(args[1], "");
    assert_refused(parse(NULL), "run: needs at least 1 argument (MODEL [PROMPT]), got 0");
    assert_refused(parse("a", "b", "c", NULL), "run: unexpected argument \"c\"");
}

static void lists_of_numbers(void **state)
{
    (void)state;
    assert_int_equal(parse("m", "--tokens", "1,20,100000", NULL), SL_OK);
    assert_int_equal(settings.tokens.n, 3);
    assert_int_equal(settings.tokens.v[0], 1);
    assert_int_equal(settings.tokens.v[2], 100000);
    assert_refused(parse("m", "--tokens=1,,2", NULL), "run: --tokens: \"\" is not a whole number");
    assert_refused(parse("m", "--tokens=1,x", NULL), "run: --tokens: \"x\" is not a whole number");
    assert_refused(parse("m", "--tokens=1,-1,2", NULL),
                   "run: --tokens: -1 is out of range (0 to 100000)");
    char many[2 * SL_OPT_INTS_MAX + 2];
    for (size_t i = 0; i < sizeof many - 1; i++) many[i] = i % 2 ? ',' : '7';
    many[sizeof many - 1] = '\0';
    assert_refused(parse("m", "--tokens", many, NULL), "run: --tokens: more than 4096 numbers");
    many[sizeof many - 3] = '\0';
    assert_int_equal(parse("m", "--tokens", many, NULL), SL_OK);
    assert_int_equal(settings.tokens.n, SL_OPT_INTS_MAX);
}

static void an_option_that_adds_up(void **state)
{
    (void)state;
    assert_int_equal(parse("-la=b", "m", "--label", "", "--label=c,d", NULL), SL_OK);
    assert_int_equal(settings.labels.n, 3);
    assert_string_equal(settings.labels.v[0], "a=b");
    assert_string_equal(settings.labels.v[1], "");
    assert_string_equal(settings.labels.v[2], "c,d"); /* not taken apart */
    assert_refused(parse("m", "--label", NULL), "run: --label needs a value (K=V)");
    static char name[] = "run", model[] = "m", option[] = "-lx=y";
    char *argv[2 + SL_OPT_STRINGS_MAX + 1] = {name, model};
    const char *words[2 + SL_OPT_STRINGS_MAX + 1];
    for (int i = 0; i <= SL_OPT_STRINGS_MAX; i++) argv[2 + i] = option;
    assert_int_equal(sl_config_parse(&command, 2 + SL_OPT_STRINGS_MAX, argv, &settings, words,
                                     &n_args, &help, &err),
                     SL_OK);
    assert_int_equal(settings.labels.n, SL_OPT_STRINGS_MAX);
    assert_refused(sl_config_parse(&command, 3 + SL_OPT_STRINGS_MAX, argv, &settings, words,
                                   &n_args, &help, &err),
                   "run: --label: more than 64 of it");
}

static void sizes_in_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t n_bytes;
    } rows[] = {
        {"1024", 1024},
        {"1K", 1024},
        {"3k", 3072},
        {"5M", 5 << 20},
        {"2G", INT64_C(2) << 30},
        {"1T", INT64_C(1) << 40},
        {"2GiB", INT64_C(2) << 30},
        {"64kiB", 64 << 10},
        {"2.5G", INT64_C(5) << 29},
        {"2.50GiB", INT64_C(5) << 29},
        {"0.999999T", 1099510528264},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(parse("m", "--cache", rows[i].text, NULL), SL_OK);
        assert_int_equal(settings.cache, rows[i].n_bytes);
    }
    assert_refused(parse("m", "--cache=100", NULL),
                   "run: --cache: 100 is out of range (at least 1K)");
    assert_refused(parse("m", "--cache=-1G", NULL),
                   "run: --cache: -1G is out of range (at least 1K)");
    assert_refused(parse("m", "--cache=9999999999T", NULL),
                   "run: --cache: 9999999999T is out of range (at least 1K)");
    static const char *const bad[] = {"",   "K",   "1KB",        "1.5",   "1.G", "G1",     "1 K",
                                      "iB", "1iB", "1.1234567G", "1.-5G", ".5G", "1.5.5G", "-0.5G"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(parse("m", "--cache", bad[i], NULL), SL_INVALID);
        assert_non_null(strstr(err.text, "is not a size such as 512, 64K, 100M or 2.5G"));
    }
}

static void numbers_out_of_range_name_their_bounds(void **state)
{
    (void)state;
    assert_refused(parse("m", "--threads=0", NULL), "run: --threads: 0 is out of range (1 to 512)");
    assert_refused(parse("m", "-t", "513", NULL), "run: --threads: 513 is out of range (1 to 512)");
    assert_refused(parse("m", "--temp", "2.01", NULL),
                   "run: --temp: 2.01 is out of range (0 to 2)");
    assert_refused(parse("m", "--temp", "inf", NULL), "run: --temp: inf is out of range (0 to 2)");
    assert_refused(parse("m", "--seed=9223372036854775808", NULL),
                   "run: --seed: 9223372036854775808 is too large a number");
    assert_int_equal(parse("m", "--seed=-9223372036854775808", NULL), SL_OK);
    assert_true(settings.seed == INT64_MIN);
    assert_int_equal(parse("m", "--seed=+9223372036854775807", NULL), SL_OK);
    assert_true(settings.seed == INT64_MAX);
}

static void what_is_no_number_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "x", "1x", " 1", "1 ", "-", "+", "0x10", "1.5", "--"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(parse("m", "--threads", bad[i], NULL), SL_INVALID);
        assert_non_null(strstr(err.text, "is not a whole number"));
    }
    static const char *const bad_floats[] = {"", "x", "1x", " 1", "nan", "1,5"};
    for (size_t i = 0; i < sizeof bad_floats / sizeof bad_floats[0]; i++) {
        assert_int_equal(parse("m", "--temp", bad_floats[i], NULL), SL_INVALID);
        assert_non_null(strstr(err.text, "is not a number"));
    }
}

static void choices_are_listed(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "f1", "f166", "f16,q8_0", ","};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(parse("m", "--kind", bad[i], NULL), SL_INVALID);
        assert_non_null(strstr(err.text, "is not one of f16, q8_0, f32"));
    }
    assert_refused(parse("m", "--kind=q4", NULL),
                   "run: --kind: \"q4\" is not one of f16, q8_0, f32");
}

static void flags_take_true_and_false_only(void **state)
{
    (void)state;
    assert_refused(parse("m", "--verbose=yes", NULL),
                   "run: --verbose: \"yes\" is not true or false");
    assert_refused(parse("m", "--no-verbose=true", NULL), "run: --no-verbose takes no value");
    assert_refused(parse("m", "--no-threads", NULL), "run: unknown option --no-threads");
}

static void values_that_are_missing(void **state)
{
    (void)state;
    assert_refused(parse("m", "--threads", NULL), "run: --threads needs a value (N)");
    assert_refused(parse("m", "-vo", NULL), "run: --out needs a value (FILE)");
}

static void near_misses_get_a_suggestion(void **state)
{
    (void)state;
    assert_refused(parse("m", "--tmep", "1", NULL),
                   "run: unknown option --tmep; did you mean --temp?");
    assert_refused(parse("m", "--thread=4", NULL),
                   "run: unknown option --thread; did you mean --threads?");
    assert_refused(parse("m", "--no-colour", NULL),
                   "run: unknown option --no-colour; did you mean --no-color?");
    assert_refused(parse("m", "-temp", "1", NULL), "run: --threads: \"emp\" is not a whole number");
    assert_refused(parse("m", "-seed", "1", NULL),
                   "run: unknown option -seed; did you mean --seed?");
    assert_refused(parse("m", "--hepl", NULL), "run: unknown option --hepl; did you mean --help?");
    assert_refused(parse("m", "--something-else", NULL), "run: unknown option --something-else");
    assert_refused(parse("m", "-z", NULL), "run: unknown option -z");
    assert_refused(parse("m", "--=x", NULL), "run: unknown option --");
    char longer[400];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    memcpy(longer, "--", 2);
    assert_int_equal(parse(longer, NULL), SL_INVALID);
    assert_true(strlen(err.text) < 120);
}

static void help_stops_the_parsing(void **state)
{
    (void)state;
    assert_int_equal(parse("--help", "--nonsense", NULL), SL_OK);
    assert_true(help);
    assert_int_equal(parse("-h", NULL), SL_OK);
    assert_true(help);
    assert_int_equal(parse("-vh", NULL), SL_OK);
    assert_true(help);
    assert_int_equal(parse("--", "--help", NULL), SL_OK);
    assert_false(help);
}

static void a_bad_default_is_our_own_mistake(void **state)
{
    (void)state;
    static const struct sl_opt bad[] = {
        {.name = "n", .type = SL_OPT_INT, .initial = "many", .value = "N", .help = "."},
        {0},
    };
    const struct sl_command broken = {.name = "x", .usage = "", .summary = ".", .opts = bad};
    int64_t n;
    char *argv[] = {NULL};
    assert_int_equal(sl_config_parse(&broken, 0, argv, &n, args, &n_args, &help, &err),
                     SL_INTERNAL);
    assert_string_equal(err.text, "x: default: --n: \"many\" is not a whole number");
    assert_int_equal(sl_config_parse(&broken, 0, argv, &n, args, &n_args, &help, NULL),
                     SL_INTERNAL);
}

static void the_help_text(void **state)
{
    (void)state;
    struct sl_buf out;
    sl_buf_init(&out, 10000);
    assert_int_equal(sl_config_help(&command, &out), SL_OK);
    assert_string_equal(
        out.data,
        "Usage: starlane run [options] MODEL [PROMPT]\n"
        "\n"
        "Runs a model.\n"
        "\n"
        "Options:\n"
        "  -t, --threads N    Threads to compute with. (1 to 512; default: 2)\n"
        "      --temp T       Temperature of sampling; 0 takes the likeliest token. (0 to 2; "
        "default: 0.8)\n"
        "      --seed N       Seed of the random choice.\n"
        "  -c, --cache BYTES  Memory for keys and values. (at least 1K; default: 64K)\n"
        "      --kind TYPE    Type of the cache | its numbers. (f16, q8_0, f32; default: q8_0)\n"
        "      --tokens IDS   Prompt as token ids. (0 to 100000)\n"
        "  -l, --label K=V    A label; may be given several times.\n"
        "  -o, --out FILE     Where to write.\n"
        "  -v, --verbose      Say more.\n"
        "  -k, --[no-]color   Use colours on a terminal, which makes this sentence long enough "
        "that it has to\n"
        "                     be wrapped somewhere.\n"
        "  -h, --help         Print this help and exit.\n"
        "\n"
        "First paragraph filled.\n"
        "\n"
        "    starlane run   kept as it is\n"
        "\n"
        "Last.\n");
    sl_buf_done(&out);
}

static void the_reference_page(void **state)
{
    (void)state;
    struct sl_buf out;
    sl_buf_init(&out, 10000);
    assert_int_equal(sl_config_reference(&command, &out), SL_OK);
    static const char head[] =
        "## starlane run\n\nRuns a model.\n\n    starlane run [options] MODEL [PROMPT]\n\n"
        "| option | values | default | meaning |\n|---|---|---|---|\n| `-t`";
    assert_memory_equal(out.data, head, sizeof head - 1);
    assert_non_null(strstr(
        out.data, "\n| `-t`, `--threads N` | 1 to 512 | `2` | Threads to compute with. |\n"));
    assert_non_null(strstr(
        out.data,
        "\n| `--kind TYPE` | f16, q8_0, f32 | `q8_0` | Type of the cache \\| its numbers. |\n"));
    assert_non_null(strstr(out.data, "\n| `-k`, `--[no-]color` |  |  | Use colours"));
    assert_non_null(strstr(out.data, "\n\nLast.\n"));
    sl_buf_done(&out);
}

static void full_buffers_and_lost_memory_are_reported(void **state)
{
    (void)state;
    struct sl_buf out;
    sl_buf_init(&out, 50);
    assert_int_equal(sl_config_help(&command, &out), SL_LIMIT);
    assert_int_equal(sl_config_reference(&command, &out), SL_LIMIT);
    sl_buf_done(&out);
    sl_buf_init(&out, 5000);
    sl_mem_fail_at(1, true);
    assert_int_equal(sl_config_help(&command, &out), SL_NOMEM);
    sl_mem_fail_at(0, false);
    sl_buf_done(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_fill_every_field),
        cmocka_unit_test(every_way_to_write_an_option),
        cmocka_unit_test(arguments_keep_their_order),
        cmocka_unit_test(lists_of_numbers),
        cmocka_unit_test(an_option_that_adds_up),
        cmocka_unit_test(sizes_in_bytes),
        cmocka_unit_test(numbers_out_of_range_name_their_bounds),
        cmocka_unit_test(what_is_no_number_is_refused),
        cmocka_unit_test(choices_are_listed),
        cmocka_unit_test(flags_take_true_and_false_only),
        cmocka_unit_test(values_that_are_missing),
        cmocka_unit_test(near_misses_get_a_suggestion),
        cmocka_unit_test(help_stops_the_parsing),
        cmocka_unit_test(a_bad_default_is_our_own_mistake),
        cmocka_unit_test(the_help_text),
        cmocka_unit_test(the_reference_page),
        cmocka_unit_test(full_buffers_and_lost_memory_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
