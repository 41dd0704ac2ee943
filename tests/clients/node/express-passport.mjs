// express with passport-http-bearer, which asks POST /v1/validate.
import express from 'express';
import passport from 'passport';
import { Strategy } from 'passport-http-bearer';
import { KEY, PORT, SESSIOND_URL, identity, refusal } from './guard.mjs';

passport.use(new Strategy(async (token, done) => {
    try {
        const answer = await fetch(`${SESSIOND_URL}/v1/validate`, {
            method: 'POST', headers: { Authorization: `Bearer ${KEY}`, 'Content-Type': 'application/json' },
            body: JSON.stringify({ token }), signal: AbortSignal.timeout(2000),
        });
        if (answer.status !== 200)
            return done(Object.assign(new Error('sessiond cannot tell'), {
                status: answer.status, retryAfter: answer.headers.get('Retry-After') }));
        const session = await answer.json();
        return done(null, session.active ? session : false);
    } catch (error) {
        return done(error);
    }
}));

const application = express();
application.use(passport.authenticate('bearer', { session: false }));
application.use((request, response) => response.json({ headers: identity(request.user) }));
application.use((error, request, response, next) => {
    const { status, headers } = refusal(error.status === 429 ? 429 : 503, error.retryAfter);
    response.status(status).set(headers).json({ status });
});
application.listen(PORT, '127.0.0.1');
