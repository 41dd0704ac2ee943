/* Changes of what holds for a tenant: its state is read, decided on, and written if it is still the
 * one that was read, all over again if somebody else was faster. Whoever watches the key hears of
 * it. */
#pragma once

/* Once, before the first call. */
void tenant_change_prepare(void);
