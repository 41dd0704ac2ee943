// undici over TLS: a client certificate stands for the service key, so there is no secret to send.
import http from 'node:http';
import { Agent, request as call } from 'undici';
import { PORT, answer, bearer, identity, refusal } from './guard.mjs';

const { TLS_URL, CA, CERTIFICATE, CERTIFICATE_KEY } = process.env;
const dispatcher = new Agent({ connect: { ca: CA, cert: CERTIFICATE, key: CERTIFICATE_KEY }, headersTimeout: 2000 });
http.createServer(async (request, response) => {
    const token = bearer(request.headers.authorization);
    if (!token)
        return answer(response, refusal(401));
    try {
        const asked = await call(`${TLS_URL}/v1/validate`, {
            dispatcher, method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ token }) });
        const found = await asked.body.json();
        if (asked.statusCode !== 200)
            return answer(response, refusal(asked.statusCode === 429 ? 429 : 503, asked.headers['retry-after']));
        if (found.active)
            answer(response, { status: 200 }, { headers: identity(found) });
        else
            answer(response, refusal(401));
    } catch {
        answer(response, refusal(503));
    }
}).listen(PORT, '127.0.0.1');
