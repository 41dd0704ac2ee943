// openid-client: discovery by RFC 8414, then introspection.
import http from 'node:http';
import * as client from 'openid-client';
import { ISSUER, KEY, KEY_NAME, PORT, answer, bearer, identity, refusal } from './guard.mjs';

const configuration = await client.discovery(new URL(ISSUER), KEY_NAME, undefined, client.ClientSecretBasic(KEY),
    { algorithm: 'oauth2', execute: [client.allowInsecureRequests] });
http.createServer(async (request, response) => {
    const token = bearer(request.headers.authorization);
    try {
        const found = token ? await client.tokenIntrospection(configuration, token) : { active: false };
        if (found.active)
            answer(response, { status: 200 }, { headers: identity(found) });
        else
            answer(response, refusal(401));
    } catch (error) {
        // With an OAuth error in the body the answer is error.response, else error.cause.
        const from = [error.response, error.cause].find((one) => one instanceof Response);
        answer(response, refusal(from?.status === 429 ? 429 : 503, from?.headers.get('Retry-After')));
    }
}).listen(PORT, '127.0.0.1');
