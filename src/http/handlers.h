/* The handlers that the rows of routes.c name; one file for each resource. Each ends with exactly
 * one request_answer() or request_fail(), at once or later. */
#pragma once

struct request;

/* handle_ops.c */
void handle_livez(struct request *request);
void handle_readyz(struct request *request);
void handle_metrics(struct request *request);
void handle_version(struct request *request);
void handle_problem(struct request *request);
