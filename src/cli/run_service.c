/* run_service.c: what is long-lived begins here. */
#include "cli/run_service.h"
#include "base/mem.h"

#include <limits.h>

int run_service(const struct sl_command *spec, struct service_cfg *cfg)
{
    char home[PATH_MAX];
    struct service *service = NULL;
    struct sl_err err = SL_ERR_INIT;
    sl_mem_keep_buffers();
    cfg->home = cli_home(home, sizeof home);
    sl_status status = service_create(cfg, &service, &err);
    if (status == SL_OK) status = service_run(service, &err);
    service_destroy(service);
    return status == SL_OK ? CLI_OK : cli_fail(spec, &err);
}
