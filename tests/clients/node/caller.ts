// Compiled against the types of the OpenAPI document, never run: names and shapes that callers rely on.
import type { paths } from './openapi';

type Json<T> = T extends { content: { 'application/json': infer Body } } ? Body : never;
type LoginBody = Json<NonNullable<paths['/v1/login']['post']['requestBody']>>;
type Login = Json<paths['/v1/login']['post']['responses'][201]>;
type Validation = Json<paths['/v1/validate']['post']['responses'][200]>;

export const body: LoginBody = { user_id: 'alice', roles: ['editor'], device: { id: 'phone' } };
// @ts-expect-error: there is no such member
export const wrong: LoginBody = { user_id: 'alice', rolls: [] };
export const token = (login: Login): string => login.access_token;
export const isActive = (found: Validation): boolean => found.active;
