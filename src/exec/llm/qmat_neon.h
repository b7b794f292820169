/* qmat_neon.h: what the AArch64 kernels share: the vector types of qmat_kernel.h with four rows in
 * a vector, and the operations on them that Armv8.0 has. Included by qmat_kernel_*.c before
 * qmat_kernel.h. Dot products take signed bytes here, so q8_0's numbers get their sign back when a
 * step is spread out, and no number needs anything added to it.
 * Instructions: Arm Architecture Reference Manual for A-profile, C7 (Advanced SIMD), C8 (SVE). */
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define LANES 4
#define GROUPS 2
#define Q8_BIAS 0
#define Q8_FLIP 0x80 /* takes back what qmat_int.h adds to q8_0's numbers */
#define LIMIT_4_BITS 8
#define LIMIT_5_BITS 8
#define LIMIT_6_BITS 4
#define LIMIT_8_BITS 8
typedef uint32x4_t uvec;
typedef int32x4_t ivec;
typedef float32x4_t fvec;
typedef int8_t qvec __attribute__((vector_size(4)));

static inline fvec fvec_from_halves(const void *p)
{
    uint16x4_t halves;
    memcpy(&halves, p, sizeof halves);
    return vcvt_f32_f16(vreinterpret_f16_u16(halves));
}

#define fvec_fma(a, b, c) vfmaq_f32(c, a, b)
#define uvec_larger(a, b) vmaxq_u32(a, b)
#define uvec_most(v) vmaxvq_u32(v)
#define ivec_rounded(v) vcvtnq_s32_f32(v)

/* Products of 16-bit pairs: those of rows 0 and 1, and of 2 and 3, not yet added up. */
struct pairs_sum {
    int32x4_t low, high;
};
typedef struct pairs_sum pairs_sum;

static inline pairs_sum pairs_dot(pairs_sum sum, ivec a, ivec b)
{
    int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
    sum.low = vmlal_s16(sum.low, vget_low_s16(x), vget_low_s16(y));
    sum.high = vmlal_high_s16(sum.high, x, y);
    return sum;
}

#define pairs_total(sum) vpaddq_s32((sum).low, (sum).high)

/* Only for the sums of columns' words: the tiles have dot products of their own. */
static inline ivec part_dot(ivec part, ivec ones, ivec x)
{
    (void)ones;
    return vpadalq_s16(part, vpaddlq_s8(vreinterpretq_s8_s32(x)));
}

#define part_begin(sum) (sum)
#define part_end(sum, part) (part)

static inline void signed_bytes(const uint8_t *in, uint8_t *out, int n)
{
    for (int i = 0; i < n; i += 16)
        vst1q_u8(out + i, veorq_u8(vld1q_u8(in + i), vdupq_n_u8(Q8_FLIP)));
}
