#include "support/tile_emulator.h"

#if defined(__x86_64__)
#include "base/x86_tiles.h"

#include <signal.h>
#include <string.h>
#include <ucontext.h>

#define VEX3 0xc4
#define MAP_0F38 2
#define OP_CONFIG 0x49
#define OP_MEMORY 0x4b
#define OP_DOT 0x5e
#define MOD_REGISTER 3

enum prefix { PREFIX_NONE, PREFIX_66, PREFIX_F3, PREFIX_F2 };

static _Thread_local struct tile_config config;
static _Thread_local bool configured;
static _Thread_local uint8_t tiles[TILE_COUNT][TILE_ROWS][TILE_ROW_BYTES];
static _Thread_local long n_done;

struct instruction {
    uint8_t op;
    enum prefix prefix;
    int mod, reg, rm, vvvv;
    uintptr_t address; /* of the memory operand, without the index of TILELOADD and TILESTORED */
    int64_t index;     /* scaled */
    int length;
};

static int64_t register_at(const greg_t *regs, int number)
{
    static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                  REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                  REG_R12, REG_R13, REG_R14, REG_R15};
    return regs[order[number]];
}

/* Reads the memory operand that begins at its SIB byte or displacement. Intel SDM vol. 2, 2.1.5. */
static void decode_memory(const uint8_t *at, uint8_t vex1, const greg_t *regs,
                          struct instruction *in)
{
    int base = in->rm, displacement_bytes = in->mod == 1 ? 1 : in->mod == 2 ? 4 : 0;
    int extend_index = vex1 & 0x40 ? 0 : 8, extend_base = vex1 & 0x20 ? 0 : 8;
    int32_t displacement = 0;
    bool relative = in->mod == 0 && in->rm == 5, none = relative;
    if (in->rm == 4) {
        int index = (*at >> 3 & 7) + extend_index;
        base = *at & 7;
        if (index != 4) in->index = register_at(regs, index) * (1 << (*at >> 6));
        none = in->mod == 0 && base == 5;
        at++, in->length++;
    }
    if (none) displacement_bytes = 4;
    if (displacement_bytes == 1) displacement = (int8_t)*at;
    if (displacement_bytes == 4) memcpy(&displacement, at, 4);
    in->length += displacement_bytes;
    in->address = (uintptr_t)(int64_t)displacement;
    if (relative) in->address += (uintptr_t)(regs[REG_RIP] + in->length);
    if (!none) in->address += (uintptr_t)register_at(regs, base + extend_base);
}

/* False: not an instruction of AMX, as all of those begin. */
static bool decode(const greg_t *regs, struct instruction *in)
{
    const uint8_t *code = (const uint8_t *)(uintptr_t)regs[REG_RIP];
    if (code[0] != VEX3 || (code[1] & 0x1f) != MAP_0F38 || code[2] & 0x84) return false;
    *in = (struct instruction){.op = code[3],
                               .prefix = (enum prefix)(code[2] & 3),
                               .mod = code[4] >> 6,
                               .reg = code[4] >> 3 & 7,
                               .rm = code[4] & 7,
                               .vvvv = ~(code[2] >> 3) & 15,
                               .length = 5};
    if (in->mod != MOD_REGISTER) decode_memory(code + 5, code[1], regs, in);
    return true;
}

static bool config_is_legal(const struct tile_config *c)
{
    static const uint8_t zeros[16];
    if (c->palette == 0) return true; /* as TILERELEASE */
    if (c->palette > 1 || memcmp(c->reserved, zeros, sizeof c->reserved)) return false;
    for (int t = 0; t < 16; t++) {
        bool rows = c->rows[t], bytes = c->row_bytes[t];
        if (rows != bytes || (rows && t >= TILE_COUNT)) return false;
        if (c->rows[t] > TILE_ROWS || c->row_bytes[t] > TILE_ROW_BYTES) return false;
    }
    return true;
}

static bool configure(const struct instruction *in)
{
    struct tile_config wanted;
    memcpy(&wanted, (const void *)(in->address + (uintptr_t)in->index), sizeof wanted);
    memset(tiles, 0, sizeof tiles);
    configured = wanted.palette == 1;
    config = wanted;
    return config_is_legal(&wanted);
}

/* Tiles of no rows may not be touched either. */
static bool is_usable(int tile)
{
    return configured && tile < TILE_COUNT && config.rows[tile];
}

static bool move(const struct instruction *in)
{
    if (in->rm != 4 || in->vvvv || !is_usable(in->reg)) return false;
    size_t n = config.row_bytes[in->reg];
    for (int r = 0; r < config.rows[in->reg]; r++) {
        void *memory = (void *)(in->address + (uintptr_t)(r * in->index));
        if (in->prefix == PREFIX_F3) {
            memcpy(memory, tiles[in->reg][r], n);
            continue;
        }
        memcpy(tiles[in->reg][r], memory, n);
        memset(tiles[in->reg][r] + n, 0, TILE_ROW_BYTES - n);
    }
    return true;
}

static void clear_rows_behind(int tile)
{
    for (int r = config.rows[tile]; r < TILE_ROWS; r++) memset(tiles[tile][r], 0, TILE_ROW_BYTES);
}

static void add_word(int32_t *sum, const uint8_t *a, const uint8_t *b)
{
    for (int i = 0; i < 4; i++) *sum += (int8_t)a[i] * (int8_t)b[i];
}

static bool dot(const struct instruction *in)
{
    int to = in->reg, a = in->rm, b = in->vvvv;
    if (!is_usable(to) || !is_usable(a) || !is_usable(b)) return false;
    if (to == a || to == b || a == b || config.row_bytes[to] % 4 || config.row_bytes[a] % 4 ||
        config.rows[to] != config.rows[a] || config.row_bytes[to] != config.row_bytes[b] ||
        config.row_bytes[a] != 4 * config.rows[b])
        return false;
    for (int m = 0; m < config.rows[to]; m++) {
        for (int n = 0; n < config.row_bytes[to] / 4; n++) {
            int32_t sum;
            memcpy(&sum, &tiles[to][m][4 * n], sizeof sum);
            for (int k = 0; k < config.rows[b]; k++)
                add_word(&sum, &tiles[a][m][4 * k], &tiles[b][k][4 * n]);
            memcpy(&tiles[to][m][4 * n], &sum, sizeof sum);
        }
    }
    return true;
}

static bool execute(const struct instruction *in)
{
    if (in->op == OP_CONFIG && in->mod == MOD_REGISTER) {
        if (in->vvvv || in->rm) return false;
        if (in->prefix == PREFIX_F2) {
            memset(tiles[in->reg], 0, sizeof *tiles);
            return is_usable(in->reg);
        }
        configured = false;
        return in->prefix == PREFIX_NONE && in->reg == 0;
    }
    if (in->op == OP_CONFIG) return in->prefix == PREFIX_NONE && !in->reg && configure(in);
    if (in->op == OP_MEMORY && in->mod != MOD_REGISTER && in->prefix >= PREFIX_F3) {
        if (!move(in)) return false;
        if (in->prefix == PREFIX_F2) clear_rows_behind(in->reg);
        return true;
    }
    return in->op == OP_DOT && in->mod == MOD_REGISTER && in->prefix == PREFIX_F2 && dot(in);
}

static void on_illegal(int signal_number, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    struct instruction in;
    (void)info;
    if (decode(regs, &in) && execute(&in)) {
        regs[REG_RIP] += in.length;
        n_done++;
        return;
    }
    signal(signal_number, SIG_DFL); /* and the instruction is met again */
}

bool tile_emulator_install(void)
{
    struct sigaction action = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    return sigaction(SIGILL, &action, NULL) == 0;
}

long tile_emulator_count(void)
{
    return n_done;
}

bool tile_emulator_configured(void)
{
    return configured;
}

#else

bool tile_emulator_install(void)
{
    return false;
}

long tile_emulator_count(void)
{
    return 0;
}

bool tile_emulator_configured(void)
{
    return false;
}

#endif
