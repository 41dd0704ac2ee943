// A client's whole life with openid-client and with oauth4webapi: discovery, refresh, introspection, revocation.
// Prints what it found as JSON; the tokens come in by the environment.
import * as client from 'openid-client';
import * as oauth from 'oauth4webapi';
import { ISSUER, KEY, KEY_NAME } from './guard.mjs';

const insecure = { [oauth.allowInsecureRequests]: true };
const issuer = new URL(ISSUER);

async function withOpenidClient(refreshToken) {
    const resource = await client.discovery(issuer, KEY_NAME, undefined, client.ClientSecretPost(KEY),
        { algorithm: 'oauth2', execute: [client.allowInsecureRequests] });
    const app = await client.discovery(issuer, 'app', undefined, client.None(),
        { algorithm: 'oauth2', execute: [client.allowInsecureRequests] });
    const pair = await client.refreshTokenGrant(app, refreshToken);
    const before = await client.tokenIntrospection(resource, pair.access_token);
    let invalid;
    await client.tokenRevocation(app, pair.access_token);
    try {
        await client.refreshTokenGrant(app, pair.refresh_token);
    } catch (error) {
        invalid = error.error;
    }
    const after = await client.tokenIntrospection(resource, pair.access_token);
    return { expires: pair.expires_in, type: pair.token_type, before: before.active, after, invalid };
}

async function withOauth4webapi(refreshToken) {
    const server = await oauth.processDiscoveryResponse(issuer,
        await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure }));
    const resource = { client_id: KEY_NAME }, app = { client_id: 'app' };
    const introspect = async (token) => oauth.processIntrospectionResponse(server, resource,
        await oauth.introspectionRequest(server, resource, oauth.ClientSecretBasic(KEY), token, insecure));
    const refresh = async (token) => oauth.processRefreshTokenResponse(server, app,
        await oauth.refreshTokenGrantRequest(server, app, oauth.None(), token, insecure));
    const pair = await refresh(refreshToken);
    const before = await introspect(pair.access_token);
    let invalid;
    await oauth.processRevocationResponse(
        await oauth.revocationRequest(server, app, oauth.None(), pair.access_token, insecure));
    try {
        await refresh(pair.refresh_token);
    } catch (error) {
        invalid = error.error;
    }
    return { expires: pair.expires_in, type: pair.token_type, before: before.active,
        after: await introspect(pair.access_token), invalid };
}

const run = { 'openid-client': withOpenidClient, 'oauth4webapi': withOauth4webapi }[process.env.LIBRARY];
console.log(JSON.stringify(await run(process.env.REFRESH_TOKEN)));
