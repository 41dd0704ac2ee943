// jose: a service behind a gateway that verifies X-Session-Jwt offline, with the keys of /.well-known/jwks.json.
import http from 'node:http';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { AUDIENCE, ISSUER, PORT, answer, identity, refusal } from './guard.mjs';

const keys = createRemoteJWKSet(new URL(`${ISSUER}/.well-known/jwks.json`));
http.createServer(async (request, response) => {
    try {
        const { payload } = await jwtVerify(request.headers['x-session-jwt'] ?? '', keys, {
            issuer: ISSUER, audience: AUDIENCE, algorithms: ['ES256'], typ: 'at+jwt', clockTolerance: 0,
            requiredClaims: ['exp', 'iat', 'jti', 'sid', 'sub', 'tenant'] });
        // An audience of all tenants has the tenant in `sub`.
        const user = payload.sub.slice(payload.tenant.length + 1);
        const stale = request.headers['x-session-stale'];
        answer(response, { status: 200 }, { headers: identity({ ...payload, sub: user, stale: Boolean(stale), stale_for: stale }) });
    } catch (error) {
        answer(response, refusal(error.code?.startsWith('ERR_J') ? 401 : 503));
    }
}).listen(PORT, '127.0.0.1');
