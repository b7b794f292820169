/* dcmi.c: stands in for libdcmi.so: a card 3 with two chips. FAKE_BARE: only what must be there.
 * FAKE_BROKEN: not even that. The environment variable FAKE_DCMI says what goes wrong: "no driver",
 * "nonsense". */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define OK 0
#define INVALID_CARD (-8001)
#define NOT_READY (-8012)

static int goes_wrong(const char *how)
{
    const char *env = getenv("FAKE_DCMI");
    return env && strcmp(env, how) == 0;
}

int dcmi_init(void);
int dcmi_init(void)
{
    return goes_wrong("no driver") ? NOT_READY : OK;
}

int dcmi_get_card_num_list(int *count, int *list, int length);
int dcmi_get_card_num_list(int *count, int *list, int length)
{
    if (length < 1) return INVALID_CARD;
    for (int i = 0; i < length; i++) list[i] = i ? -1 : 3;
    *count = goes_wrong("nonsense") ? INT_MAX : 1;
    return OK;
}

#ifndef FAKE_BROKEN
int dcmi_get_device_num_in_card(int card, int *count);
int dcmi_get_device_num_in_card(int card, int *count)
{
    *count = 2;
    return card == 3 ? OK : INVALID_CARD;
}
#endif

#ifndef FAKE_BARE
static int state_of(int card, int chip)
{
    return card == 3 && chip >= 0 && chip < 2 ? OK : INVALID_CARD;
}

/* A later version, whose struct has grown. */
struct chip_info {
    unsigned char type[32], name[32], version[32];
    unsigned n_cores;
    char more[96];
};
int dcmi_get_device_chip_info(int card, int chip, struct chip_info *out);
int dcmi_get_device_chip_info(int card, int chip, struct chip_info *out)
{
    memset(out, goes_wrong("nonsense") ? 'x' : 0, sizeof *out);
    if (!goes_wrong("nonsense")) {
        strcpy((char *)out->type, "Ascend");
        strcpy((char *)out->name, "910B3");
    }
    return state_of(card, chip);
}

int dcmi_get_device_utilization_rate(int card, int chip, int type, unsigned *percent);
int dcmi_get_device_utilization_rate(int card, int chip, int type, unsigned *percent)
{
    *percent = goes_wrong("nonsense") ? UINT_MAX : 30u + (unsigned)chip;
    return type == 2 ? state_of(card, chip) : INVALID_CARD;
}

struct hbm_info {
    unsigned long long size;
    unsigned frequency;
    unsigned long long used;
    int celsius;
    unsigned bandwidth;
};
int dcmi_get_device_hbm_info(int card, int chip, struct hbm_info *out);
int dcmi_get_device_hbm_info(int card, int chip, struct hbm_info *out)
{
    out->size = goes_wrong("nonsense") ? 0 : 65536;
    out->used = 16384;
    return state_of(card, chip);
}

int dcmi_get_device_power_info(int card, int chip, int *tenths_of_watts);
int dcmi_get_device_power_info(int card, int chip, int *tenths_of_watts)
{
    *tenths_of_watts = goes_wrong("nonsense") ? INT_MIN : 925;
    return state_of(card, chip);
}

int dcmi_get_device_temperature(int card, int chip, int *celsius);
int dcmi_get_device_temperature(int card, int chip, int *celsius)
{
    *celsius = goes_wrong("nonsense") ? INT_MAX : 44;
    return state_of(card, chip);
}
#endif
