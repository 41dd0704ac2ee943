/* Audit lines about the service itself. */
#include "lifecycle.h"

#include <stdio.h>

#include "clock.h"

static void write_notice(struct audit_lane *lane, struct audit_notice *notice)
{
    SCOPED(buffer_free) struct buffer line = {0};
    notice->wall_ms = clock_wall_ms();
    audit_format_notice(&line, notice);
    if (!audit_write(lane, AUDIT_CLASS_CHANGES, buffer_text(&line), NULL))
        audit_count_lost(lane);
    audit_flush(lane);
}

void lifecycle_record_start(struct audit_lane *lane, struct text failed_step)
{
    write_notice(lane, &(struct audit_notice){.event = AUDIT_START,
                                              .failed = failed_step.data != NULL,
                                              .reason = failed_step,
                                              .version = TEXT(SESSIOND_VERSION)});
}

void lifecycle_record_stop(struct audit_lane *lane, bool by_force)
{
    write_notice(lane, &(struct audit_notice){.event = AUDIT_STOP,
                                              .failed = by_force,
                                              .version = TEXT(SESSIOND_VERSION)});
}

void lifecycle_record_reload(struct audit_lane *lane, const char *path, const struct conf *before,
                             const struct conf *after, struct text reason)
{
    SCOPED(buffer_free) struct buffer list = {0};
    struct changes changes = {.out = &list};
    if (after)
        conf_differences(before, after, &changes);
    changes_end(&changes);
    write_notice(lane, &(struct audit_notice){.event = AUDIT_RELOAD,
                                              .failed = after == NULL,
                                              .reason = reason,
                                              .file = text_of(path),
                                              .changes = buffer_text(&list)});
}

static void list_key_change(struct changes *changes, const char *kind, unsigned id, bool before,
                            bool after)
{
    char name[16];
    int length = snprintf(name, sizeof(name), "%s %u", kind, id);
    const struct text none = {0}, held = TEXT("held");
    if (before != after)
        changes_add(changes, (struct text){name, (size_t)length}, before ? held : none,
                    after ? held : none);
}

void lifecycle_record_keys(struct audit_lane *lane, const struct keyring *before,
                           const struct keyring *after)
{
    SCOPED(buffer_free) struct buffer list = {0};
    struct changes changes = {.out = &list};
    const struct audit_number newest = {"sessiond.newest_key", keyring_newest(after)};
    for (unsigned number = 0; number <= KEY_ID_MAX; number++) {
        uint8_t id = (uint8_t)number;
        list_key_change(&changes, "key", id, keyring_has(before, id), keyring_has(after, id));
        list_key_change(&changes, "sign", id, keyring_signs(before, id), keyring_signs(after, id));
    }
    changes_end(&changes);
    if (changes.count > 0 || keyring_newest(before) != keyring_newest(after))
        write_notice(lane, &(struct audit_notice){.event = AUDIT_KEYS,
                                                  .changes = buffer_text(&list),
                                                  .numbers = &newest,
                                                  .number_count = 1});
}
