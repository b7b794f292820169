/* agent_shapes.c: what the models in the store ask of the machines that they may be split over,
 * read from the header of each file once. */
#include "base/log.h"
#include "base/mem.h"
#include "grid/agent_int.h"
#include "grid/model_shape.h"
#include <stdio.h>
#include <string.h>

static struct agent_shape *shape_find(struct agent *agent, const char *digest)
{
    for (size_t i = 0; i < agent->n_shapes; i++)
        if (!strcmp(agent->shapes[i].digest, digest)) return &agent->shapes[i];
    return NULL;
}

/* A file that cannot be read, or is of a kind that is not split, is not looked at again. */
static struct model_shape *shape_read(const struct store_model *model)
{
    struct sl_err err = SL_ERR_INIT;
    struct model_shape *shape = sl_calloc(1, sizeof *shape);
    if (shape && model_shape_read(model->path, shape, &err) == SL_OK) return shape;
    if (shape) sl_log(SL_LOG_DEBUG, "agent", "%s is not split: %s", model->name, err.text);
    sl_free(shape);
    return NULL;
}

const struct split_model *agent_shape(struct agent *agent, const struct store_model *model)
{
    struct agent_shape *known = shape_find(agent, model->digest);
    if (!*model->digest || strcmp(model->details.format, "gguf") != 0) return NULL;
    if (!known) {
        if (agent->n_shapes == AGENT_SHAPES_MAX || agent->n_shapes_read == AGENT_SHAPES_AT_ONCE)
            return NULL;
        known = &agent->shapes[agent->n_shapes++];
        agent->n_shapes_read++;
        *known = (struct agent_shape){.shape = shape_read(model)};
        snprintf(known->digest, sizeof known->digest, "%s", model->digest);
    }
    known->used = true;
    return known->shape ? &known->shape->model : NULL;
}

void agent_shapes_begin(struct agent *agent)
{
    agent->n_shapes_read = 0;
    for (size_t i = 0; i < agent->n_shapes; i++) agent->shapes[i].used = false;
}

bool agent_shapes_end(struct agent *agent)
{
    size_t n = 0;
    for (size_t i = 0; i < agent->n_shapes; i++) {
        if (agent->shapes[i].used)
            agent->shapes[n++] = agent->shapes[i];
        else
            sl_free(agent->shapes[i].shape);
    }
    agent->n_shapes = n;
    return agent->n_shapes_read == AGENT_SHAPES_AT_ONCE;
}

void agent_shapes_done(struct agent *agent)
{
    for (size_t i = 0; i < agent->n_shapes; i++) sl_free(agent->shapes[i].shape);
    agent->n_shapes = 0;
}
