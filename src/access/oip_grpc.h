/* oip_grpc.h: the Open Inference Protocol over gRPC: a handler for each method of
 * inference.GRPCInferenceService (proto/open_inference.proto), the other face of oip.h beside REST.
 * Floor: access.  Thread: the loop's.  Allocates: with the call. */
#pragma once

struct call;

/* The handlers, each named after its method; each ends its call. */
void oip_grpc_server_live(struct call *call);
void oip_grpc_server_ready(struct call *call);
void oip_grpc_model_ready(struct call *call);
void oip_grpc_server_metadata(struct call *call);
void oip_grpc_model_metadata(struct call *call);
void oip_grpc_model_infer(struct call *call);
void oip_grpc_model_stream_infer(struct call *call); /* oip_grpc_stream.c */
void oip_grpc_repository_index(struct call *call);
void oip_grpc_repository_load(struct call *call);
void oip_grpc_repository_unload(struct call *call);
