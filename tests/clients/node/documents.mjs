// Types of TypeScript made from the OpenAPI document. A member with a default is optional (--default-non-nullable false).
import openapiTS, { astToString } from 'openapi-typescript';

console.log(astToString(await openapiTS(new URL(process.env.DOCUMENT), { defaultNonNullable: false })));
