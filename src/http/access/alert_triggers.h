/* What among requests is worth an alert (alerts.h). */
#pragma once

#include "http/exchange/request.h"

/* Looks at an answered request, whose audit record is complete. */
void alert_triggers_look(const struct request *request);

/* What only its finder knows: the tenant is over its rate; the operation logged a user in from a
 * place where it was never seen. */
void alert_triggers_tenant_rate(const struct request *request, struct text tenant);
void alert_triggers_new_location(const struct request *request, const struct operation *operation);
