/* config.c: walks a command line by the option table. */
#include "base/config.h"

#include "base/config_value.h"
#include "base/suggest.h"

#include <stdio.h>
#include <string.h>

struct parse {
    const struct sl_command *cmd;
    int argc;
    char **argv;
    int i; /* argument being looked at */
    void *target;
    bool help;
    struct sl_err *err;
};

static const struct sl_opt *find_name(const struct sl_command *cmd, const char *name, size_t len)
{
    for (const struct sl_opt *opt = cmd->opts; opt && opt->name; opt++) {
        if (strlen(opt->name) == len && memcmp(opt->name, name, len) == 0) return opt;
    }
    return NULL;
}

static const struct sl_opt *find_letter(const struct sl_command *cmd, char letter)
{
    for (const struct sl_opt *opt = cmd->opts; opt && opt->name; opt++) {
        if (opt->letter == letter) return opt;
    }
    return NULL;
}

struct suggestion {
    const char *name;
    const char *no; /* "no-" for the negated form */
    int distance;
};

static void consider(struct suggestion *best, const char *no, const char *name, const char *given,
                     size_t given_len)
{
    char full[SL_SUGGEST_NAME_MAX + 8];
    int n = snprintf(full, sizeof full, "%s%s", no, name);
    if (n < 0 || (size_t)n >= sizeof full) return;
    int distance = sl_edit_distance(given, given_len, full, (size_t)n);
    if (distance >= best->distance || distance >= n)
        return; /* n: a short name is near to everything */
    *best = (struct suggestion){.name = name, .no = no, .distance = distance};
}

static sl_status unknown_option(struct parse *p, const char *shown, size_t shown_len,
                                const char *name)
{
    size_t name_len = strcspn(name, "=");
    struct suggestion best = {.distance = SL_SUGGEST_DISTANCE + 1};
    for (const struct sl_opt *opt = p->cmd->opts; opt && opt->name; opt++) {
        consider(&best, "", opt->name, name, name_len);
        if (opt->type == SL_OPT_BOOL) consider(&best, "no-", opt->name, name, name_len);
    }
    consider(&best, "", "help", name, name_len);
    int len = shown_len < SL_SUGGEST_NAME_MAX ? (int)shown_len : SL_SUGGEST_NAME_MAX;
    if (!best.name) return sl_err_set(p->err, SL_INVALID, "unknown option %.*s", len, shown);
    return sl_err_set(p->err, SL_INVALID, "unknown option %.*s; did you mean --%s%s?", len, shown,
                      best.no, best.name);
}

/* The value that stands in the argument after the option. */
static sl_status set_from_next(struct parse *p, const struct sl_opt *opt)
{
    if (p->i + 1 >= p->argc) {
        return sl_err_set(p->err, SL_INVALID, "--%s needs a value (%s)", opt->name,
                          opt->value ? opt->value : "VALUE");
    }
    return sl_opt_set(opt, p->argv[++p->i], p->target, p->err);
}

static sl_status parse_long(struct parse *p, const char *arg)
{
    const char *name = arg + 2;
    size_t len = strcspn(name, "=");
    const char *value = name[len] ? name + len + 1 : NULL;
    const struct sl_opt *opt = find_name(p->cmd, name, len);
    if (opt) {
        if (value) return sl_opt_set(opt, value, p->target, p->err);
        if (opt->type == SL_OPT_BOOL) return sl_opt_set(opt, "true", p->target, p->err);
        return set_from_next(p, opt);
    }
    if (strcmp(name, "help") == 0) {
        p->help = true;
        return SL_OK;
    }
    opt = len > 3 && strncmp(name, "no-", 3) == 0 ? find_name(p->cmd, name + 3, len - 3) : NULL;
    if (!opt || opt->type != SL_OPT_BOOL) return unknown_option(p, arg, len + 2, name);
    if (value) return sl_err_set(p->err, SL_INVALID, "--no-%s takes no value", opt->name);
    return sl_opt_set(opt, "false", p->target, p->err);
}

/* "-v", "-n5", "-n" "5", and flags in one word: "-vq". */
static sl_status parse_letters(struct parse *p, const char *arg)
{
    for (const char *s = arg + 1; *s; s++) {
        const struct sl_opt *opt = find_letter(p->cmd, *s);
        if (!opt && *s == 'h') {
            p->help = true;
            return SL_OK;
        }
        if (!opt) return unknown_option(p, arg, strlen(arg), arg + 1);
        if (opt->type != SL_OPT_BOOL) {
            return s[1] ? sl_opt_set(opt, s + 1, p->target, p->err) : set_from_next(p, opt);
        }
        sl_status status = sl_opt_set(opt, "true", p->target, p->err);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

static sl_status set_defaults(const struct parse *p)
{
    for (const struct sl_opt *opt = p->cmd->opts; opt && opt->name; opt++) {
        if (sl_opt_set(opt, opt->initial, p->target, p->err) == SL_OK) continue;
        sl_err_prefix(p->err, "default");
        return sl_err_set(p->err, SL_INTERNAL, "%s", p->err ? p->err->text : "bad default");
    }
    return SL_OK;
}

static sl_status parse_arguments(struct parse *p, const char **args, int *n_args)
{
    bool options_ended = false;
    for (p->i = 1; p->i < p->argc && !p->help; p->i++) {
        const char *arg = p->argv[p->i];
        sl_status status = SL_OK;
        if (options_ended || arg[0] != '-' || arg[1] == '\0') {
            args[(*n_args)++] = arg;
        } else if (strcmp(arg, "--") == 0) {
            options_ended = true;
        } else {
            status = arg[1] == '-' ? parse_long(p, arg) : parse_letters(p, arg);
        }
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

static sl_status check_count(const struct sl_command *cmd, int n_args, const char **args,
                             struct sl_err *err)
{
    if (n_args < cmd->n_args_min) {
        const char *plural = cmd->n_args_min == 1 ? "" : "s";
        return sl_err_set(err, SL_INVALID, "needs at least %d argument%s (%s), got %d",
                          cmd->n_args_min, plural, cmd->usage, n_args);
    }
    if (cmd->n_args_max >= 0 && n_args > cmd->n_args_max) {
        return sl_err_set(err, SL_INVALID, "unexpected argument \"%.60s\"", args[cmd->n_args_max]);
    }
    return SL_OK;
}

sl_status sl_config_parse(const struct sl_command *cmd, int argc, char **argv, void *target,
                          const char **args, int *n_args, bool *help, struct sl_err *err)
{
    struct parse p = {.cmd = cmd, .argc = argc, .argv = argv, .target = target, .err = err};
    *n_args = 0;
    sl_status status = set_defaults(&p);
    if (status == SL_OK) status = parse_arguments(&p, args, n_args);
    *help = p.help;
    if (status == SL_OK && !p.help) status = check_count(cmd, *n_args, args, err);
    if (status != SL_OK) sl_err_prefix(err, "%s", cmd->name);
    return status;
}
