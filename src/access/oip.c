/* oip.c: names, versions, and what kind of model it is. */
#include "access/oip_int.h"
#include <stdio.h>
#include <string.h>

#define ECHO_PREFIX "echo:"

const char *const OIP_EXTENSIONS[] = {
    "binary_tensor_data", "model_repository", "model_configuration",
    "parameters",         "generate",         NULL};

const char *oip_version_of(const char *name, size_t *out_n_base)
{
    const char *slash = strrchr(name, '/');
    const char *colon = strrchr(slash ? slash : name, ':');
    bool none = !colon || *name == '/' || *name == '.' || strstr(name, "://") ||
                !strncmp(name, ECHO_PREFIX, strlen(ECHO_PREFIX));
    *out_n_base = none ? strlen(name) : (size_t)(colon - name);
    return none ? "" : colon + 1;
}

sl_status oip_store_name(const char *model, const char *version, char out[OIP_NAME_SIZE],
                         struct sl_err *err)
{
    size_t n_base;
    if (!model || !*model) return sl_err_set(err, SL_INVALID, "the model's name is missing");
    const char *own = oip_version_of(model, &n_base);
    if (!version) version = "";
    if (*own && *version && strcmp(own, version) != 0)
        return sl_err_set(err, SL_INVALID, "the name \"%.200s\" is version \"%.100s\" already",
                          model, own);
    int n = snprintf(out, OIP_NAME_SIZE, "%s%s%s", model, *own || !*version ? "" : ":",
                     *own ? "" : version);
    if (n >= OIP_NAME_SIZE)
        return sl_err_set(err, SL_INVALID, "the model's name is longer than %d bytes",
                          OIP_NAME_SIZE - 1);
    return SL_OK;
}

bool oip_is_echo(const struct node_model *model)
{
    return !strncmp(model->name, ECHO_PREFIX, strlen(ECHO_PREFIX));
}

enum oip_kind oip_kind_of(const struct node_model *model)
{
    const struct engine_info *info = model->info;
    if (oip_is_echo(model) || (model->format && !strcmp(model->format, "onnx")) ||
        (info && (info->signature.n_inputs || info->signature.n_outputs)))
        return OIP_KIND_TENSORS;
    return OIP_KIND_TEXT;
}

const struct tensor *oip_input(const struct oip_infer *infer, const char *name)
{
    for (size_t i = 0; i < infer->n_inputs; i++)
        if (!strcmp(infer->inputs[i].name, name)) return &infer->inputs[i];
    return NULL;
}

const struct oip_param *oip_param(const struct oip_infer *infer, const char *name)
{
    for (size_t i = 0; i < infer->n_params; i++)
        if (!strcmp(infer->params[i].name, name)) return &infer->params[i];
    return NULL;
}

bool oip_wants(const struct oip_infer *infer, const char *name, bool otherwise)
{
    for (size_t i = 0; i < infer->n_outputs; i++)
        if (!strcmp(infer->outputs[i], name)) return true;
    return infer->n_outputs ? false : otherwise;
}
