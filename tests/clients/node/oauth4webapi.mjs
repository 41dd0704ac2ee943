// oauth4webapi, the strictest of the clients, as the guard of a fastify proxy that overwrites identity.
import Fastify from 'fastify';
import proxy from '@fastify/http-proxy';
import * as oauth from 'oauth4webapi';
import { APPLICATION, ISSUER, KEY, KEY_NAME, PORT, bearer, identity, refusal } from './guard.mjs';

const insecure = { [oauth.allowInsecureRequests]: true };
const issuer = new URL(ISSUER);
const server = await oauth.processDiscoveryResponse(issuer,
    await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure }));
const self = { client_id: KEY_NAME };

async function guard(request, reply) {
    const token = bearer(request.headers.authorization);
    let found = { active: false }, asked;
    try {
        if (token) {
            asked = await oauth.introspectionRequest(server, self, oauth.ClientSecretBasic(KEY), token, insecure);
            found = await oauth.processIntrospectionResponse(server, self, asked);
        }
    } catch {
        const { status, headers } = refusal(asked?.status === 429 ? 429 : 503, asked?.headers.get('Retry-After'));
        return reply.code(status).headers(headers).send({ status });
    }
    if (!found.active) {
        const { status, headers } = refusal(401);
        return reply.code(status).headers(headers).send({ status });
    }
    request.identity = identity(found);
}

const application = Fastify();
application.register(proxy, {
    upstream: APPLICATION, preHandler: guard,
    replyOptions: {
        rewriteRequestHeaders: (request, headers) => {
            const own = Object.entries(headers).filter(([name]) => !/^x[-_](session|original|forwarded)[-_]/i.test(name));
            return { ...Object.fromEntries(own), ...Object.fromEntries(request.identity) };
        },
    },
});
await application.listen({ port: Number(PORT), host: '127.0.0.1' });
