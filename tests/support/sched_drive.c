/* sched_drive.c: see sched_drive.h. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "support/sched_drive.h"

struct sched_config drive_config(void)
{
    struct sched_config config;
    sched_config_default(&config);
    config.n_models_max = 8;
    config.n_waiting_max = 64;
    config.n_running_max = 32;
    config.waiting_bytes_max = 4096;
    config.budget_bytes = 1000;
    return config;
}

void drive_begin(struct drive *drive, const struct sched_config *config)
{
    *drive = (struct drive){.now_ns = DRIVE_S};
    struct sl_err err = SL_ERR_INIT;
    assert_int_equal(sched_create(config, &drive->sched, &err), SL_OK);
}

void drive_end(struct drive *drive)
{
    sched_destroy(drive->sched);
}

void drive_step(struct drive *drive, const struct sched_event *event)
{
    assert_int_equal(
        sched_step(drive->sched, event, drive->now_ns, &drive->actions, &drive->n_actions), SL_OK);
    assert_true(drive->n_actions > 0);
    assert_int_equal(drive->actions[drive->n_actions - 1].kind, SCHED_WAKE_AT);
}

void drive_wait(struct drive *drive, int64_t delta_ns)
{
    drive->now_ns += delta_ns;
    drive_step(drive, &(struct sched_event){.kind = SCHED_TICK});
}

void drive_add(struct drive *drive, uint32_t model, uint64_t bytes, uint32_t n_slots)
{
    struct sched_event event = {.kind = SCHED_MODEL_ADD, .model = model};
    event.model_add.estimate_bytes = bytes;
    event.model_add.n_slots = n_slots;
    event.model_add.keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT;
    drive_step(drive, &event);
}

void drive_about(struct drive *drive, enum sched_event_kind kind, uint32_t model)
{
    drive_step(drive, &(struct sched_event){.kind = kind,
                                            .model = model,
                                            .pinned = true,
                                            .keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT,
                                            .reason = "it was tested"});
}

void drive_request(struct drive *drive, enum sched_event_kind kind, uint64_t request)
{
    drive_step(drive, &(struct sched_event){.kind = kind, .request = request});
}

static void arrive(struct drive *drive, uint64_t request, uint32_t model,
                   enum sched_class qos_class, uint64_t tenant)
{
    struct sched_event event = {.kind = SCHED_ARRIVE, .request = request, .model = model};
    event.arrive.qos_class = qos_class;
    event.arrive.tenant = tenant;
    event.arrive.prompt_bytes = 10;
    event.arrive.keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT;
    drive_step(drive, &event);
}

void drive_arrive(struct drive *drive, uint64_t request, uint32_t model, enum sched_class qos_class)
{
    arrive(drive, request, model, qos_class, 0);
}

void drive_arrive_of(struct drive *drive, uint64_t request, uint32_t model, uint64_t tenant)
{
    arrive(drive, request, model, SCHED_STANDARD, tenant);
}

void drive_up(struct drive *drive, uint32_t model)
{
    drive_about(drive, SCHED_WORKER_STARTED, model);
    drive_about(drive, SCHED_LOADED, model);
}

static uint64_t subject_of(const struct sched_action *action)
{
    switch (action->kind) {
    case SCHED_SPAWN:
    case SCHED_UNLOAD:
    case SCHED_KILL: return action->model;
    default: return action->request;
    }
}

const struct sched_action *drive_find(const struct drive *drive, enum sched_action_kind kind,
                                      uint64_t subject)
{
    for (size_t i = 0; i < drive->n_actions; i++)
        if (drive->actions[i].kind == kind && subject_of(&drive->actions[i]) == subject)
            return &drive->actions[i];
    return NULL;
}

size_t drive_count(const struct drive *drive, enum sched_action_kind kind)
{
    size_t n = 0;
    for (size_t i = 0; i < drive->n_actions; i++) n += drive->actions[i].kind == kind;
    return n;
}

int64_t drive_wake_ns(const struct drive *drive)
{
    return drive->actions[drive->n_actions - 1].at_ns;
}

struct sched_model_info drive_model(const struct drive *drive, uint32_t model)
{
    struct sched_model_info info;
    assert_true(sched_get_model(drive->sched, model, &info));
    return info;
}
