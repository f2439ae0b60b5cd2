// A standard handler in C: what it does is in its path, as in handler.js. Echo answers with lines of
// text in the place of JSON. The bindings are wit-bindgen's.
#include "component.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 4096 };

typedef wasi_io_streams_own_input_stream_t input_t;
typedef wasi_io_streams_own_output_stream_t output_t;

// An answer that is being written.
typedef struct {
    wasi_http_types_own_outgoing_body_t body;
    output_t stream;
} answer_t;

// Bytes that grow.
typedef struct {
    uint8_t *bytes;
    size_t len;
} buffer_t;

static void append(buffer_t *buffer, const void *bytes, size_t len) {
    buffer->bytes = realloc(buffer->bytes, buffer->len + len + 1);
    memcpy(buffer->bytes + buffer->len, bytes, len);
    buffer->len += len;
    buffer->bytes[buffer->len] = 0;
}

static answer_t begin(wasi_http_types_own_response_outparam_t place, uint16_t status) {
    wasi_http_types_own_outgoing_response_t response =
        wasi_http_types_constructor_outgoing_response(wasi_http_types_constructor_fields());
    wasi_http_types_borrow_outgoing_response_t borrowed =
        wasi_http_types_borrow_outgoing_response(response);
    wasi_http_types_method_outgoing_response_set_status_code(borrowed, status);
    answer_t answer;
    wasi_http_types_method_outgoing_response_body(borrowed, &answer.body);
    wasi_http_types_result_own_outgoing_response_error_code_t result = {.is_err = false};
    result.val.ok = response;
    wasi_http_types_static_response_outparam_set(place, &result);
    wasi_http_types_method_outgoing_body_write(
        wasi_http_types_borrow_outgoing_body(answer.body), &answer.stream);
    return answer;
}

// Writes all bytes, piece by piece. Returns whether somebody took them.
static bool put(answer_t *answer, const uint8_t *bytes, size_t len) {
    while (len > 0) {
        size_t count = len < PIECE_BYTES ? len : PIECE_BYTES;
        component_list_u8_t piece = {.ptr = (uint8_t *)bytes, .len = count};
        wasi_io_streams_stream_error_t error;
        if (!wasi_io_streams_method_output_stream_blocking_write_and_flush(
                wasi_io_streams_borrow_output_stream(answer->stream), &piece, &error)) {
            wasi_io_streams_stream_error_free(&error);
            return false;
        }
        bytes += count;
        len -= count;
    }
    return true;
}

static void finish(answer_t *answer) {
    wasi_io_streams_output_stream_drop_own(answer->stream);
    wasi_http_types_error_code_t error;
    if (!wasi_http_types_static_outgoing_body_finish(answer->body, NULL, &error)) {
        wasi_http_types_error_code_free(&error);
    }
}

static void answer_with(wasi_http_types_own_response_outparam_t place, uint16_t status, const char *text) {
    answer_t answer = begin(place, status);
    put(&answer, (const uint8_t *)text, strlen(text));
    finish(&answer);
}

// Reads the next piece of a body, which the caller frees. Returns whether there was one.
static bool take(input_t stream, component_list_u8_t *piece) {
    wasi_io_streams_stream_error_t error;
    if (wasi_io_streams_method_input_stream_blocking_read(
            wasi_io_streams_borrow_input_stream(stream), PIECE_BYTES, piece, &error)) {
        return true;
    }
    wasi_io_streams_stream_error_free(&error);
    return false;
}

static buffer_t take_all(input_t stream) {
    buffer_t body = {0};
    append(&body, "", 0);
    component_list_u8_t piece;
    while (take(stream, &piece)) {
        append(&body, piece.ptr, piece.len);
        component_list_u8_free(&piece);
    }
    return body;
}

static const char *method_name(uint8_t tag) {
    switch (tag) {
        case WASI_HTTP_TYPES_METHOD_GET: return "GET";
        case WASI_HTTP_TYPES_METHOD_POST: return "POST";
        case WASI_HTTP_TYPES_METHOD_PUT: return "PUT";
        case WASI_HTTP_TYPES_METHOD_DELETE: return "DELETE";
        default: return "OTHER";
    }
}

static void echo(wasi_http_types_own_response_outparam_t place, const char *method, const char *target,
                 wasi_http_types_borrow_incoming_request_t request, input_t stream) {
    buffer_t text = {0};
    append(&text, method, strlen(method));
    append(&text, " ", 1);
    append(&text, target, strlen(target));
    append(&text, "\n", 1);
    wasi_http_types_own_headers_t headers = wasi_http_types_method_incoming_request_headers(request);
    wasi_http_types_list_tuple2_field_name_field_value_t entries;
    wasi_http_types_method_fields_entries(wasi_http_types_borrow_fields(headers), &entries);
    for (size_t i = 0; i < entries.len; i++) {
        append(&text, entries.ptr[i].f0.ptr, entries.ptr[i].f0.len);
        append(&text, ": ", 2);
        append(&text, entries.ptr[i].f1.ptr, entries.ptr[i].f1.len);
        append(&text, "\n", 1);
    }
    wasi_http_types_list_tuple2_field_name_field_value_free(&entries);
    wasi_http_types_fields_drop_own(headers);
    buffer_t body = take_all(stream);
    append(&text, body.bytes, body.len);
    answer_with(place, 200, (const char *)text.bytes);
    free(body.bytes);
    free(text.bytes);
}

static void pipe_through(wasi_http_types_own_response_outparam_t place, input_t stream) {
    answer_t answer = begin(place, 200);
    component_list_u8_t piece;
    bool is_taken = true;
    while (is_taken && take(stream, &piece)) {
        is_taken = put(&answer, piece.ptr, piece.len);
        component_list_u8_free(&piece);
    }
    finish(&answer);
}

static void refuse(wasi_http_types_own_response_outparam_t place, wasi_keyvalue_store_error_t *error) {
    wasi_keyvalue_store_error_free(error);
    answer_with(place, 500, "the store refuses\n");
}

static void key_value(wasi_http_types_own_response_outparam_t place, uint8_t method, const char *name,
                      input_t stream) {
    component_string_t bucket_name, key;
    component_string_set(&bucket_name, "default");
    component_string_set(&key, name);
    wasi_keyvalue_store_own_bucket_t owned;
    wasi_keyvalue_store_error_t error;
    if (!wasi_keyvalue_store_open(&bucket_name, &owned, &error)) {
        refuse(place, &error);
        return;
    }
    wasi_keyvalue_store_borrow_bucket_t bucket = wasi_keyvalue_store_borrow_bucket(owned);
    buffer_t body = take_all(stream);
    if (method == WASI_HTTP_TYPES_METHOD_PUT) {
        component_list_u8_t value = {.ptr = body.bytes, .len = body.len};
        bool is_set = wasi_keyvalue_store_method_bucket_set(bucket, &key, &value, &error);
        is_set ? answer_with(place, 200, "set\n") : refuse(place, &error);
    } else if (method == WASI_HTTP_TYPES_METHOD_DELETE) {
        bool is_deleted = wasi_keyvalue_store_method_bucket_delete(bucket, &key, &error);
        is_deleted ? answer_with(place, 200, "deleted\n") : refuse(place, &error);
    } else if (method == WASI_HTTP_TYPES_METHOD_POST) {
        uint64_t delta = strtoull((const char *)body.bytes, NULL, 10), sum;
        char text[24];
        if (wasi_keyvalue_atomics_increment(bucket, &key, delta, &sum, &error)) {
            snprintf(text, sizeof text, "%" PRIu64 "\n", sum);
            answer_with(place, 200, text);
        } else {
            refuse(place, &error);
        }
    } else {
        component_option_list_u8_t value;
        if (!wasi_keyvalue_store_method_bucket_get(bucket, &key, &value, &error)) {
            refuse(place, &error);
        } else if (value.is_some) {
            answer_t answer = begin(place, 200);
            put(&answer, value.val.ptr, value.val.len);
            finish(&answer);
            component_option_list_u8_free(&value);
        } else {
            answer_with(place, 404, "no such key\n");
        }
    }
    free(body.bytes);
    wasi_keyvalue_store_bucket_drop_own(owned);
}

void exports_wasi_http_incoming_handler_handle(
    exports_wasi_http_incoming_handler_own_incoming_request_t request,
    exports_wasi_http_incoming_handler_own_response_outparam_t place) {
    wasi_http_types_borrow_incoming_request_t borrowed = wasi_http_types_borrow_incoming_request(request);
    wasi_http_types_method_t method;
    wasi_http_types_method_incoming_request_method(borrowed, &method);
    component_string_t path;
    if (!wasi_http_types_method_incoming_request_path_with_query(borrowed, &path)) {
        component_string_dup(&path, "/");
    }
    char *target = strndup((const char *)path.ptr, path.len);
    wasi_http_types_own_incoming_body_t body;
    input_t stream;
    wasi_http_types_method_incoming_request_consume(borrowed, &body);
    wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(body), &stream);

    // `/x/hello`: what comes after the first part is the wish.
    const char *wish = strchr(target + 1, '/');
    wish = wish == NULL ? "" : wish;
    if (strcmp(wish, "/hello") == 0) {
        answer_with(place, 200, "hello from C\n");
    } else if (strncmp(wish, "/echo", 5) == 0) {
        echo(place, method_name(method.tag), target, borrowed, stream);
    } else if (strcmp(wish, "/pipe") == 0) {
        pipe_through(place, stream);
    } else if (strncmp(wish, "/kv/", 4) == 0) {
        key_value(place, method.tag, wish + 4, stream);
    } else if (strcmp(wish, "/log") == 0) {
        printf("said on stdout\n");
        fflush(stdout);
        answer_with(place, 200, "logged\n");
    } else {
        answer_with(place, 404, "no such path\n");
    }
    wasi_io_streams_input_stream_drop_own(stream);
    wasi_http_types_future_trailers_drop_own(wasi_http_types_static_incoming_body_finish(body));
    wasi_http_types_incoming_request_drop_own(request);
    wasi_http_types_method_free(&method);
    component_string_free(&path);
    free(target);
}
