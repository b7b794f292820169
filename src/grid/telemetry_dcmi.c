/* telemetry_dcmi.c: Huawei's Ascend NPUs by the Device Control Management Interface, declared here
 * as the DCMI API Reference has it; no header is needed. A card has one or two NPU chips. */
#include "grid/telemetry_int.h"

#include <stdio.h>
#include <string.h>

#define DCMI_OK 0
#define DCMI_CARDS_MAX 64 /* MAX_CARD_NUM */
#define DCMI_CHIP_NAME_SIZE 32
#define DCMI_USE_AICORE 2 /* of dcmi_get_device_utilization_rate */

struct dcmi_chip_info {
    unsigned char chip_type[DCMI_CHIP_NAME_SIZE]; /* "Ascend" */
    unsigned char chip_name[DCMI_CHIP_NAME_SIZE]; /* "910B3" */
    unsigned char chip_ver[DCMI_CHIP_NAME_SIZE];
    unsigned aicore_cnt;
};
struct dcmi_hbm_info {
    unsigned long long memory_size; /* MB */
    unsigned freq;
    unsigned long long memory_usage; /* MB */
    int temp;
    unsigned bandwith_util_rate;
};
/* What later versions append to a struct must not hit the stack. */
#define DCMI_ROOM 512
union chip_room {
    struct dcmi_chip_info info;
    char room[DCMI_ROOM];
};
union hbm_room {
    struct dcmi_hbm_info info;
    char room[DCMI_ROOM];
};

enum { INIT, CARDS, CHIPS, N_NEEDED, NAME = N_NEEDED, USE, MEMORY, POWER, TEMPERATURE };
static const char *const symbols[] = {"dcmi_init",
                                      "dcmi_get_card_num_list",
                                      "dcmi_get_device_num_in_card",
                                      "dcmi_get_device_chip_info",
                                      "dcmi_get_device_utilization_rate",
                                      "dcmi_get_device_hbm_info",
                                      "dcmi_get_device_power_info",
                                      "dcmi_get_device_temperature",
                                      NULL};
typedef int init_fn(void);
typedef int cards_fn(int *count, int *list, int length);
typedef int chips_fn(int card, int *count);
typedef int name_fn(int card, int chip, struct dcmi_chip_info *info);
typedef int use_fn(int card, int chip, int type, unsigned *percent);
typedef int memory_fn(int card, int chip, struct dcmi_hbm_info *info);
typedef int power_fn(int card, int chip, int *tenths_of_watts);
typedef int temperature_fn(int card, int chip, int *celsius);

static void add_card(struct telemetry_driver *driver, int card)
{
    int n = 0;
    if (((chips_fn *)driver->symbols[CHIPS])(card, &n) != DCMI_OK) return;
    for (int chip = 0; chip < n && driver->n_devices < TELEMETRY_ACCELERATORS_MAX; chip++) {
        driver->devices[driver->n_devices].card = card;
        driver->devices[driver->n_devices++].chip = chip;
    }
}

static bool begin(struct telemetry_driver *driver)
{
    int cards[DCMI_CARDS_MAX], n = 0;
    int error = ((init_fn *)driver->symbols[INIT])();
    if (error != DCMI_OK) {
        snprintf(driver->problem, sizeof driver->problem, "dcmi_init: error %d", error);
        return false;
    }
    if (((cards_fn *)driver->symbols[CARDS])(&n, cards, DCMI_CARDS_MAX) != DCMI_OK) n = 0;
    for (int i = 0; i < n && i < DCMI_CARDS_MAX; i++) add_card(driver, cards[i]);
    return true;
}

static void get_name(struct telemetry_driver *driver, int device, char *out, size_t size)
{
    union chip_room chip;
    name_fn *get = (name_fn *)driver->symbols[NAME];
    memset(&chip, 0, sizeof chip);
    out[0] = '\0';
    if (!get ||
        get(driver->devices[device].card, driver->devices[device].chip, &chip.info) != DCMI_OK)
        return;
    snprintf(out, size, "%.*s %.*s", DCMI_CHIP_NAME_SIZE - 1, (char *)chip.info.chip_type,
             DCMI_CHIP_NAME_SIZE - 1, (char *)chip.info.chip_name);
}

static void read_memory(struct telemetry_driver *driver, int card, int chip,
                        struct telemetry_accelerator *out)
{
    union hbm_room hbm;
    memory_fn *get = (memory_fn *)driver->symbols[MEMORY];
    memset(&hbm, 0, sizeof hbm);
    if (!get || get(card, chip, &hbm.info) != DCMI_OK) return;
    out->memory_total_bytes = (double)hbm.info.memory_size * (1 << 20);
    out->memory_used_bytes = (double)hbm.info.memory_usage * (1 << 20);
}

static void read_device(struct telemetry_driver *driver, int device,
                        struct telemetry_accelerator *out)
{
    int card = driver->devices[device].card, chip = driver->devices[device].chip, value = 0;
    use_fn *get_use = (use_fn *)driver->symbols[USE];
    power_fn *get_power = (power_fn *)driver->symbols[POWER];
    temperature_fn *get_temperature = (temperature_fn *)driver->symbols[TEMPERATURE];
    unsigned percent = 0;
    if (get_use && get_use(card, chip, DCMI_USE_AICORE, &percent) == DCMI_OK)
        out->utilisation = percent / 100.0;
    read_memory(driver, card, chip, out);
    if (get_power && get_power(card, chip, &value) == DCMI_OK) out->watts = value / 10.0;
    if (get_temperature && get_temperature(card, chip, &value) == DCMI_OK) out->celsius = value;
}

static const char *const libraries[] = {"libdcmi.so", "/usr/local/dcmi/libdcmi.so", NULL};

/* It has no counterpart to dcmi_init. */
const struct telemetry_vendor_ops telemetry_dcmi_ops = {.libraries = libraries,
                                                        .symbols = symbols,
                                                        .n_needed = N_NEEDED,
                                                        .begin = begin,
                                                        .name = get_name,
                                                        .read = read_device};
