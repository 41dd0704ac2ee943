-- Action of HAProxy (2.6 or later) that asks sessiond about a request (haproxy.cfg):
--
--   http-request lua.sessiond unix@/run/sessiond/http.sock /authz/auth-request
--
-- It sets txn.sessiond_allow to true for an answer of 200 and for nothing else. An error in here leaves it unset,
-- so the request is refused.

local TIMEOUT = 1000    -- milliseconds; sessiond answers within authz.timeout (150 ms)
local LONGEST = 1000    -- bytes of the original path that are handed on

-- Of the client's headers these go to sessiond and no others.
local ASKED = {"authorization", "cookie", "origin", "sec-fetch-mode", "sec-fetch-site",
               "sec-websocket-version", "user-agent", "x-device-fingerprint", "x-request-id", "traceparent"}
-- Of the answer's headers these become variables, `X-Session-Device-Type` txn.sessiond_device_type.
local TOLD = {"authenticated", "user", "tenant", "roles", "id", "device", "device-type", "expires", "stale",
              "extended", "truncated", "jwt"}

local function first(headers, name)
    return headers[name] and headers[name][0]
end

local function question(txn)
    local given, headers = txn.http:req_get_headers(), {}
    for _, name in ipairs(ASKED) do
        if given[name] then
            -- HTTP/2 splits cookies; nothing else in the list may come twice.
            headers[name] = {given[name][0]}
            for number = 1, #given[name] do
                headers[name][1] = headers[name][1] .. "; " .. given[name][number]
            end
        end
    end
    local scheme = txn.f:ssl_fc() == 1 and "https" or "http"
    headers["x-original-method"] = {txn.f:method()}
    headers["x-original-url"] = {scheme .. "://" .. (first(given, "host") or "") .. txn.f:path():sub(1, LONGEST)}
    headers["x-forwarded-for"] = {txn.f:src()}
    return headers
end

core.register_action("sessiond", {"http-req"}, function(txn, address, path)
    local answer = core.httpclient():get{url = "http://sessiond" .. path, dst = address, timeout = TIMEOUT,
                                         headers = question(txn)}
    if not answer or not answer.headers then
        return
    end
    txn:set_var("txn.sessiond_status", answer.status)
    txn:set_var("txn.sessiond_challenge", first(answer.headers, "www-authenticate") or "Bearer")
    txn:set_var("txn.sessiond_retry", first(answer.headers, "retry-after") or "1")
    txn:set_var("txn.sessiond_body", answer.body or "")
    if answer.status ~= 200 then
        return
    end
    for _, name in ipairs(TOLD) do
        txn:set_var("txn.sessiond_" .. name:gsub("-", "_"), first(answer.headers, "x-session-" .. name) or "")
    end
    txn:set_var("txn.sessiond_allow", true)
end, 2)
