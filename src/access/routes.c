/* routes.c: which path is whose. */
#include "access/admin.h"
#include "access/grid_api.h"
#include "access/grid_plan.h"
#include "access/grid_views.h"
#include "access/grpc_health.h"
#include "access/grpc_reflection.h"
#include "access/history_view.h"
#include "access/oip_grpc.h"
#include "access/oip_rest.h"
#include "access/ollama.h"
#include "access/openai.h"
#include <stdio.h>
#include <string.h>

#define INFERENCE "/inference.GRPCInferenceService/"

static const struct route routes[] = {
    {HTTP_METHOD_POST, "/v1/chat/completions", API_OPENAI, false, openai_chat},
    {HTTP_METHOD_POST, "/v1/completions", API_OPENAI, false, openai_completions},
    {HTTP_METHOD_POST, "/v1/embeddings", API_OPENAI, false, openai_embeddings},
    {HTTP_METHOD_GET, "/v1/models", API_OPENAI, false, openai_models},
    {HTTP_METHOD_GET, "/v1/models/*", API_OPENAI, false, openai_model},
    {HTTP_METHOD_POST, "/tokenize", API_OPENAI, false, tokens_tokenize},
    {HTTP_METHOD_POST, "/detokenize", API_OPENAI, false, tokens_detokenize},
    {HTTP_METHOD_GET, "/health", API_OPENAI, true, admin_health},
    {HTTP_METHOD_GET, "/metrics", API_PLAIN, false, admin_metrics},
    {HTTP_METHOD_POST, "/api/generate", API_OLLAMA, false, ollama_generate},
    {HTTP_METHOD_POST, "/api/chat", API_OLLAMA, false, ollama_chat},
    {HTTP_METHOD_POST, "/api/embed", API_OLLAMA, false, ollama_embed},
    {HTTP_METHOD_POST, "/api/embeddings", API_OLLAMA, false, ollama_embeddings},
    {HTTP_METHOD_GET, "/api/tags", API_OLLAMA, false, ollama_tags},
    {HTTP_METHOD_POST, "/api/show", API_OLLAMA, false, ollama_show},
    {HTTP_METHOD_GET, "/api/ps", API_OLLAMA, false, ollama_ps},
    {HTTP_METHOD_GET, "/api/version", API_OLLAMA, true, ollama_version},
    {HTTP_METHOD_POST, "/api/copy", API_OLLAMA, false, ollama_copy},
    {HTTP_METHOD_DELETE, "/api/delete", API_OLLAMA, false, ollama_delete},
    {HTTP_METHOD_POST, "/api/pull", API_OLLAMA, false, ollama_pull},
    {HTTP_METHOD_POST, "/v1/rerank", API_OPENAI, false, rerank},
    {HTTP_METHOD_POST, "/rerank", API_OPENAI, false, rerank},
    {HTTP_METHOD_GET, "/v2", API_OIP, true, oip_rest_server},
    {HTTP_METHOD_GET, "/v2/", API_OIP, true, oip_rest_server},
    {HTTP_METHOD_GET, "/v2/health/live", API_OIP, true, oip_rest_live},
    {HTTP_METHOD_GET, "/v2/health/ready", API_OIP, true, oip_rest_ready},
    {HTTP_METHOD_GET, "/v2/models/*", API_OIP, false, oip_rest_model},
    {HTTP_METHOD_POST, "/v2/models/*", API_OIP, false, oip_rest_model},
    {HTTP_METHOD_POST, "/v2/repository/index", API_OIP, false, oip_rest_index},
    {HTTP_METHOD_POST, "/v2/repository/models/*", API_OIP, false, oip_rest_repository},
    {HTTP_METHOD_POST, INFERENCE "ModelInfer", API_GRPC, false, oip_grpc_model_infer},
    {HTTP_METHOD_POST, INFERENCE "ModelStreamInfer", API_GRPC, false, oip_grpc_model_stream_infer},
    {HTTP_METHOD_POST, INFERENCE "ServerLive", API_GRPC, true, oip_grpc_server_live},
    {HTTP_METHOD_POST, INFERENCE "ServerReady", API_GRPC, true, oip_grpc_server_ready},
    {HTTP_METHOD_POST, INFERENCE "ModelReady", API_GRPC, false, oip_grpc_model_ready},
    {HTTP_METHOD_POST, INFERENCE "ServerMetadata", API_GRPC, true, oip_grpc_server_metadata},
    {HTTP_METHOD_POST, INFERENCE "ModelMetadata", API_GRPC, false, oip_grpc_model_metadata},
    {HTTP_METHOD_POST, INFERENCE "RepositoryIndex", API_GRPC, false, oip_grpc_repository_index},
    {HTTP_METHOD_POST, INFERENCE "RepositoryModelLoad", API_GRPC, false, oip_grpc_repository_load},
    {HTTP_METHOD_POST, INFERENCE "RepositoryModelUnload", API_GRPC, false,
     oip_grpc_repository_unload},
    {HTTP_METHOD_POST, "/grpc.health.v1.Health/Check", API_GRPC, true, grpc_health_check},
    {HTTP_METHOD_POST, "/grpc.health.v1.Health/Watch", API_GRPC, true, grpc_health_watch},
    {HTTP_METHOD_POST, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", API_GRPC, true,
     grpc_reflection_info},
    {HTTP_METHOD_POST, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", API_GRPC,
     true, grpc_reflection_info},
    {HTTP_METHOD_POST, "/grid/v1/tokens", API_OPENAI, true, grid_api_token_make},
    {HTTP_METHOD_GET, "/grid/v1/tokens", API_OPENAI, true, grid_api_tokens},
    {HTTP_METHOD_DELETE, "/grid/v1/tokens/*", API_OPENAI, true, grid_api_token_revoke},
    {HTTP_METHOD_GET, "/grid/v1/members", API_OPENAI, true, grid_api_members},
    {HTTP_METHOD_GET, "/grid/v1/nodes", API_OPENAI, true, grid_view_nodes},
    {HTTP_METHOD_GET, "/grid/v1/models", API_OPENAI, true, grid_view_models},
    {HTTP_METHOD_GET, "/grid/v1/explain", API_OPENAI, true, grid_view_explain},
    {HTTP_METHOD_POST, "/grid/v1/plans", API_OPENAI, true, grid_plan_make},
    {HTTP_METHOD_GET, "/grid/v1/status", API_OPENAI, true, grid_view_status},
    {HTTP_METHOD_GET, "/grid/v1/history", API_OPENAI, true, history_view},
    {HTTP_METHOD_PATCH, "/grid/v1/members/*", API_OPENAI, true, grid_api_member_change},
    {HTTP_METHOD_DELETE, "/grid/v1/members/*", API_OPENAI, true, grid_api_member_remove},
    {HTTP_METHOD_GET, "/", API_PLAIN, true, admin_root},
    {HTTP_METHOD_HEAD, "/", API_PLAIN, true, admin_root},
};

/* A pattern that ends in a star takes the rest of the path, slashes included, but not nothing. */
static bool path_fits(const char *pattern, const char *path, const char **out_rest)
{
    size_t n = strlen(pattern);
    *out_rest = "";
    if (n < 2 || pattern[n - 1] != '*') return !strcmp(pattern, path);
    if (strncmp(pattern, path, n - 1) != 0 || !path[n - 1]) return false;
    *out_rest = path + n - 1;
    return true;
}

/* Whose errors a path without a route has. */
static enum api_family family_of(const char *path)
{
    if (!strncmp(path, "/api/", 5)) return API_OLLAMA;
    return !strcmp(path, "/v2") || !strncmp(path, "/v2/", 4) ? API_OIP : API_OPENAI;
}

const struct route *route_find(enum http_method method, const char *path, const char **out_rest,
                               bool *out_path_known, enum api_family *out_family)
{
    *out_path_known = false;
    *out_family = family_of(path);
    *out_rest = "";
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        const char *rest;
        if (!path_fits(routes[i].path, path, &rest)) continue;
        if (routes[i].method == method) {
            *out_rest = rest;
            return &routes[i];
        }
        *out_path_known = true;
    }
    return NULL;
}

void route_methods(const char *path, char *out, size_t n_out)
{
    static const char *const names[] = {[HTTP_METHOD_GET] = "GET",
                                        [HTTP_METHOD_HEAD] = "HEAD",
                                        [HTTP_METHOD_POST] = "POST",
                                        [HTTP_METHOD_PATCH] = "PATCH",
                                        [HTTP_METHOD_DELETE] = "DELETE"};
    size_t n = 0;
    const char *rest;
    out[0] = '\0';
    for (size_t i = 0; i < sizeof routes / sizeof routes[0] && n < n_out; i++)
        if (path_fits(routes[i].path, path, &rest))
            n += (size_t)snprintf(out + n, n_out - n, "%s%s", n ? ", " : "",
                                  names[routes[i].method]);
}
