/* The description of this interface. */
#include "openapi.h"

#include "handlers.h"
#include "http/exchange/response.h"
#include "request_fields.h"

enum handled api_openapi(struct request *request)
{
    struct etag_list unused;
    if (api_check_conditions(request, &unused))
        return ANSWERED;
    return response_answer_document(request, (struct text){openapi_json, openapi_json_length},
                                    openapi_etag);
}
