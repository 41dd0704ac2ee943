// token-introspection: a plain RFC 7662 client, in an express middleware.
import express from 'express';
import introspection from 'token-introspection';
import { KEY, KEY_NAME, PORT, SESSIOND_URL, bearer, identity, refusal } from './guard.mjs';

const introspect = introspection({ endpoint: `${SESSIOND_URL}/oauth2/introspect`, client_id: KEY_NAME, client_secret: KEY });
const application = express();
application.use(async (request, response) => {
    const token = bearer(request.headers.authorization);
    let found;
    try {
        found = token ? await introspect(token, 'access_token') : null;
    } catch (error) {
        if (error.name !== 'TokenNotActiveError') {
            const { status, headers } = refusal(Number(/\b429\b/.test(error.message)) ? 429 : 503);
            return response.status(status).set(headers).json({ status });
        }
    }
    if (found)
        return response.json({ headers: identity(found) });
    const { status, headers } = refusal(401);
    return response.status(status).set(headers).json({ status });
});
application.listen(PORT, '127.0.0.1');
