#include "exec/llm/qmat_avx512.h"

#define KERNEL qmat_avx512vnni
#define KERNEL_NAME "avx512vnni"

#include "exec/llm/qmat_kernel.h"
