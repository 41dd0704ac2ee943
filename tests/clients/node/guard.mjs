// What the guards share: where sessiond is, and the answer that tests read, as the application behind a gateway gives it.
export const { SESSIOND_URL, ISSUER, KEY_NAME, KEY, PORT, APPLICATION, AUDIENCE } = process.env;

// [name, value] of each header that a gateway would have set for an introspection or a session.
export function identity(found) {
    const roles = found.roles ?? (found.scope ? found.scope.split(' ') : []);
    return [['X-Session-User', found.user_id ?? found.sub], ['X-Session-Tenant', found.tenant],
        ['X-Session-Roles', roles.join(',')], ['X-Session-Stale', found.stale ? String(found.stale_for) : '']];
}

export function bearer(header) {
    return /^Bearer (\S+)$/i.exec(header ?? '')?.[1];
}

// Status and headers of a refusal. Only sessiond's word makes 401; whatever else went wrong is 503.
export function refusal(status, retryAfter) {
    if (status === 401)
        return { status, headers: { 'WWW-Authenticate': 'Bearer error="invalid_token"' } };
    return { status: status === 429 ? 429 : 503, headers: { 'Retry-After': retryAfter ?? '1' } };
}

export function answer(response, { status, headers }, body) {
    response.writeHead(status, { 'Content-Type': 'application/json', ...headers });
    response.end(JSON.stringify(body ?? { status }));
}
