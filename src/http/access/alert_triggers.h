/* Raises the alerts (alerts.h) that requests give cause for. */
#pragma once

#include "http/exchange/request.h"

/* Checks an answered request, whose audit record is complete. */
void alert_triggers_look(const struct request *request);

/* Raised where the cause is found: the tenant is over its rate; the operation logged a user in from
 * a location where the user was never seen. */
void alert_triggers_tenant_rate(const struct request *request, struct text tenant);
/* A token that a service passed on from this address was never issued. */
void alert_triggers_guess(const struct request *request, struct text address);
void alert_triggers_new_location(const struct request *request, const struct operation *operation);
