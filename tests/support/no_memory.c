#include "support/no_memory.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

void no_memory_each(no_memory_fn *fn, void *ctx)
{
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    for (uint64_t n = 1; status != SL_OK; n++) {
        sl_mem_fail_at(n, false);
        status = fn(ctx);
        sl_mem_fail_at(0, false);
        assert_true(status == SL_OK || status == SL_NOMEM);
        assert_int_equal(sl_mem_live(), live);
    }
}
