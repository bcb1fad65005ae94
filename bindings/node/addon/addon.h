/* What the two parts of the addon share: addon.c, by hand, and abi.c, generated. */
#ifndef DBSS_NODE_ADDON_H
#define DBSS_NODE_ADDON_H

#define NAPI_VERSION 8
#include <dbss.h>
#include <node_api.h>
#include <stdbool.h>

#include "abi.h"

/* A parameter or result of a function of libdbss. */
typedef union {
    void *handle;
    const char *text;
    int64_t number;
    size_t length;
    dbss_buffer buffer;
    char id[DBSS_ID_SIZE];
} dbss_node_value;

/* What a parameter is; JavaScript gives those before OPERATION. */
enum {
    HANDLE,
    OPTIONAL_HANDLE,
    TEXT,
    OPTIONAL_TEXT,
    NUMBER,
    CALLBACK,
    OPERATION,
    UNUSED,
    OUT_HANDLE,
    OUT_BUFFER,
    OUT_BYTES,
    OUT_LENGTH,
    OUT_ID,
};

enum { RETURNS_NOTHING, RETURNS_STATUS, RETURNS_TEXT, RETURNS_NUMBER };

#define DBSS_NODE_PARAMETERS 9

typedef struct {
    unsigned char kind, handle;
    const char *name;
} dbss_node_parameter;

typedef struct {
    const char *name;
    void (*call)(dbss_node_value *values);
    unsigned char returns, blocks, count;
    dbss_node_parameter parameters[DBSS_NODE_PARAMETERS];
} dbss_node_function;

typedef struct {
    const char *name;
    void (*free)(void *handle);
    /* NULL if it has no getters. */
    void (*read)(napi_env env, const void *handle, napi_value object);
} dbss_node_handle_type;

typedef struct {
    const char *name;
    dbss_status status;
} dbss_node_invalid;

extern const dbss_node_function dbss_node_functions[];
extern const size_t dbss_node_function_count;
/* By the numbers in abi.h. */
extern const dbss_node_handle_type dbss_node_handle_types[];
/* Ends with the name NULL. */
extern const dbss_node_invalid dbss_node_invalids[];

/* For numbers that no value stands for none of. */
#define DBSS_NODE_ALWAYS INT64_MIN

/* These set a field of an object, unless the value is none. */
void dbss_node_set_text(napi_env env, napi_value object, const char *name, const char *text);
void dbss_node_set_bytes(napi_env env, napi_value object, const char *name, const char *bytes);
void dbss_node_set_boolean(napi_env env, napi_value object, const char *name, int32_t value);
void dbss_node_set_number(napi_env env, napi_value object, const char *name, int64_t value, int64_t none);
void dbss_node_set_word(napi_env env, napi_value object, const char *name, int32_t value, const char *const *words,
                        size_t count);
/* This one frees the error. */
void dbss_node_set_error(napi_env env, napi_value object, const char *name, dbss_error *error);
napi_value dbss_node_list(napi_env env, napi_value object, const char *name);
napi_value dbss_node_item(napi_env env, napi_value list, size_t index);
void dbss_node_add_text(napi_env env, napi_value list, size_t index, const char *text);

/* The callbacks that a configuration keeps. */
void dbss_node_log_fn(void *user_data, const dbss_log_record *record);
void dbss_node_token_provider_fn(void *user_data, dbss_token_request *request);
void dbss_node_destroy_fn(void *user_data);

#endif
