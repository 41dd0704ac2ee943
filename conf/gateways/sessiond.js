// Key under which nginx keeps an answer of sessiond (nginx-cache.conf): a hash, so that no token is on the disk.
import crypto from 'crypto';

function key(r) {
    // The method is the client's own: that of the request at hand, which asks sessiond, is always GET.
    const decides = [r.variables.request_method, r.headersIn['Host'], r.variables.scheme, r.variables.remote_addr];
    const names = ['Authorization', 'Cookie', 'Origin', 'Sec-Fetch-Mode', 'Sec-Fetch-Site', 'Sec-WebSocket-Version', 'Upgrade',
        'X-Device-Fingerprint'];
    names.forEach((name) => decides.push(r.headersIn[name]));
    // JSON keeps apart what would be the same text if it were joined.
    return crypto.createHash('sha256').update(JSON.stringify(decides.map((value) => value || ''))).digest('base64url');
}

export default { key };
