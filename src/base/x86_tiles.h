/* x86_tiles.h: Intel AMX's tile registers, as far as products of signed bytes need them. Intel SDM
 * vol. 1, ch. 18, and vol. 2, LDTILECFG, TILELOADD, TDPBSSD and so on.
 * Floor: base.  Thread: tiles belong to the thread, which configures them before and releases them
 * after use; to be called only where sl_cpu_has(SL_CPU_AMX_INT8).
 *
 * Assembler and not the compilers' intrinsics: gcc 12's _tile_loadconfig claims to read 8 bytes of
 * the configuration and its _tile_loadd to read nothing, so stores to both are optimised away.
 * Here the first names all its bytes as an operand, and all that touch memory say so. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define TILE_COUNT 8
#define TILE_ROWS 16
#define TILE_ROW_BYTES 64

struct tile_config { /* what LDTILECFG reads */
    uint8_t palette; /* 1: eight tiles of up to 16 rows of 64 bytes */
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16]; /* 0, with no bytes: the tile is not used */
};
_Static_assert(sizeof(struct tile_config) == 64, "LDTILECFG reads 64 bytes");

/* Zeroes all tiles. */
static inline void tile_configure(const struct tile_config *config)
{
    __asm__ volatile("ldtilecfg %0" : : "m"(*config) : "memory");
}

static inline void tile_release(void)
{
    __asm__ volatile("tilerelease" : : : "memory");
}

/* Tiles are named by a digit. */
#define tile_zero(tile) tile_zero_named(tile)
#define tile_zero_named(tile) __asm__ volatile("tilezero %%tmm" #tile : :)

/* Rows stand `stride` bytes apart. */
#define tile_load(tile, from, stride) tile_load_named(tile, from, stride)
#define tile_load_named(tile, from, stride) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile \
                     : \
                     : "r"(from), "r"((ptrdiff_t)(stride)) \
                     : "memory")

#define tile_store(tile, to, stride) tile_store_named(tile, to, stride)
#define tile_store_named(tile, to, stride) \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" \
                     : \
                     : "r"(to), "r"((ptrdiff_t)(stride)) \
                     : "memory")

/* sums[i][j] += a[i][0..3] * b[0][j][0..3] + a[i][4..7] * b[1][j][0..3] + ..: signed bytes, 32-bit
 * sums. */
#define tile_dot(sums, a, b) tile_dot_named(sums, a, b)
#define tile_dot_named(sums, a, b) \
    __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #sums : :)
