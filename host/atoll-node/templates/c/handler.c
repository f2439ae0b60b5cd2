// Counts the visits of each page, on every node together.
//
// What can be called is in build/handler.h: kv, log, config, clock, random. A call that can fail
// returns whether it did not. The node takes the answer's strings and lists and frees them, so they
// come from malloc.
#include "handler.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef exports_atoll_edge_incoming_handler_request_t request_t;
typedef exports_atoll_edge_incoming_handler_response_t response_t;

// Returns formatted text for the node to free.
static handler_string_t text(const char *format, const char *page, int page_len, int64_t visits) {
    int len = snprintf(NULL, 0, format, page_len, page, visits);
    char *bytes = malloc(len + 1);
    snprintf(bytes, len + 1, format, page_len, page, visits);
    return (handler_string_t){.ptr = (uint8_t *)bytes, .len = len};
}

static void answer(response_t *response, uint16_t status, handler_string_t body) {
    response->status = status;
    response->headers.len = 1;
    response->headers.ptr = malloc(sizeof *response->headers.ptr);
    handler_string_dup(&response->headers.ptr->f0, "content-type");
    handler_string_dup((handler_string_t *)&response->headers.ptr->f1, "application/json");
    response->body.ptr = body.ptr;
    response->body.len = body.len;
}

// Adds 1 to the page's counter. Returns whether the node did it.
static bool count(const char *page, int page_len, int64_t *visits) {
    handler_string_t name;
    atoll_edge_kv_own_bucket_t bucket;
    atoll_edge_kv_error_t error;
    handler_string_set(&name, "default");
    if (!atoll_edge_kv_static_bucket_open(&name, &bucket, &error)) {
        atoll_edge_kv_error_free(&error);
        return false;
    }
    handler_string_t key = text("visits:%.*s", page, page_len, 0);
    bool is_counted = atoll_edge_kv_method_bucket_increment(
        atoll_edge_kv_borrow_bucket(bucket), &key, 1, NULL, visits, &error);
    if (!is_counted) {
        atoll_edge_kv_error_free(&error);
    }
    handler_string_free(&key);
    atoll_edge_kv_bucket_drop_own(bucket);
    return is_counted;
}

void exports_atoll_edge_incoming_handler_handle(request_t *request, response_t *response) {
    const char *page = (const char *)request->path.ptr;
    int page_len = (int)request->path.len;
    int64_t visits = 0;
    if (count(page, page_len, &visits)) {
        handler_string_t line = text("visit of %.*s, number %" PRId64, page, page_len, visits);
        atoll_edge_log_log(ATOLL_EDGE_LOG_LEVEL_INFO, &line);
        handler_string_free(&line);
        answer(response, 200, text("{\"page\":\"%.*s\",\"visits\":%" PRId64 "}", page, page_len, visits));
    } else {
        answer(response, 500, text("{\"error\":\"%.*s could not be counted\"}", page, page_len, 0));
    }
    exports_atoll_edge_incoming_handler_request_free(request);
}
