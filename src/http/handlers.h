/* The handlers that the rows of routes.c name; one file for each resource. Each ends with exactly
 * one request_answer() or request_fail(), at once or later. */
#pragma once

struct operation;
struct request;

/* handle_sessions.c */
void handle_login(struct request *request);
/* Answers a login. */
void finish_login(struct operation *operation);
void handle_validate(struct request *request);
void handle_service_validate(struct request *request);
void handle_refresh(struct request *request);
void handle_logout(struct request *request);
void handle_logout_all(struct request *request);
/* Answers an operation that ended sessions. */
void finish_ended(struct operation *operation);

/* handle_verify.c */
void handle_verify(struct request *request);

/* handle_devices.c */
void handle_devices(struct request *request);
void handle_kick(struct request *request);
void handle_user_devices(struct request *request);
void handle_user_kick(struct request *request);
void handle_user_logout_all(struct request *request);

/* handle_tenant_sessions.c */
void handle_tenant_sessions(struct request *request);

/* handle_attributes.c */
void handle_attributes(struct request *request);
void handle_put_attributes(struct request *request);
void handle_patch_attributes(struct request *request);

/* cors.c */
void handle_preflight(struct request *request);

/* handle_users.c */
void handle_user(struct request *request);
void handle_freeze(struct request *request);
void handle_unfreeze(struct request *request);

/* handle_explain.c */
void handle_explain(struct request *request);

/* handle_tenants.c */
void handle_policy(struct request *request);
void handle_set_policy(struct request *request);
void handle_patch_policy(struct request *request);
void handle_delete_policy(struct request *request);
void handle_tenant_logout_all(struct request *request);

/* handle_ops.c */
void handle_livez(struct request *request);
void handle_readyz(struct request *request);
void handle_metrics(struct request *request);
void handle_version(struct request *request);
void handle_problem(struct request *request);
