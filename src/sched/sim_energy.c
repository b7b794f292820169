/* sim_energy.c: what a machine draws, and what that costs and emits at the time. */
#include "sched/sim_int.h"

#define JOULES_PER_KWH 3.6e6
#define NS_PER_HOUR INT64_C(3600000000000)

static double at_hour(const double *series, uint32_t n, int64_t now_ns, double otherwise)
{
    return n ? series[(uint64_t)(now_ns / NS_PER_HOUR) % n] : otherwise;
}

static const struct sim_tariff *tariff_of(const struct sim *sim, const struct sim_node *spec)
{
    static const struct sim_tariff none = {.n_price = 0};
    return spec->tariff < sim->config->n_tariffs ? &sim->config->tariffs[spec->tariff] : &none;
}

double sim_energy_price_kwh(const struct sim *sim, const struct sim_node *spec)
{
    const struct sim_tariff *tariff = tariff_of(sim, spec);
    return at_hour(tariff->price_kwh, tariff->n_price, sim->now_ns, spec->price_kwh);
}

double sim_energy_carbon_kwh(const struct sim *sim, const struct sim_node *spec)
{
    const struct sim_tariff *tariff = tariff_of(sim, spec);
    return at_hour(tariff->carbon_kwh, tariff->n_carbon, sim->now_ns, spec->carbon_kwh);
}

/* Called as often as nodes report: what the change of the hour falls in has the new price. */
void sim_energy_charge(struct sim *sim, uint32_t node)
{
    struct sim_machine *machine = &sim->machines[node];
    const struct sim_node *spec = machine->spec;
    sim_engine_catch_up(sim, node);
    double passed_s = (double)(sim->now_ns - machine->charged_ns) / SIM_NS_PER_S;
    double busy_s = machine->result.busy_s - machine->charged_busy_s;
    double joules = spec->watts_idle * passed_s + (spec->watts_busy - spec->watts_idle) * busy_s;
    machine->charged_ns = sim->now_ns;
    machine->charged_busy_s = machine->result.busy_s;
    machine->result.joules += joules;
    machine->result.cost += joules / JOULES_PER_KWH * sim_energy_price_kwh(sim, spec);
    machine->result.co2_g += joules / JOULES_PER_KWH * sim_energy_carbon_kwh(sim, spec);
}
