/** From a request's JSON body to the fields of the backend's request. */
import type { IncomingMessage } from "node:http";

import type { ApiVersion } from "../api-version.ts";
import {
  checkJsonContentType,
  type JsonBodyOptions,
  parseJsonBody,
  readBoundedBody,
} from "../http/json-body.ts";
import {
  type Conversion,
  type ConversionName,
  type Converted,
  type ConvertedSchema,
  conversions,
} from "./conversions.ts";
import { fieldsFromBytes } from "./encoded-fields.ts";
import { convertInThread, withLargeBody } from "./large-bodies.ts";

/**
 * Reads and converts the body: a small one here, a large one in a worker thread that returns encoded fields.
 *
 * @throws SockerlessError of kind `invalid` in dockerd's words
 */
export async function readBody<Name extends ConversionName>(
  { request, version }: { readonly request: IncomingMessage; readonly version: ApiVersion },
  name: Name,
  options: JsonBodyOptions = {},
): Promise<Converted<ConvertedSchema<Name>>> {
  if (options.anyContentType !== true) {
    checkJsonContentType(request);
  }
  const body = readBoundedBody(request);
  const small = await body.next();
  if (small.done === true) {
    const { convert } = conversions[name] as unknown as Conversion<ConvertedSchema<Name>>;
    return convert(parseJsonBody(small.value, options), version);
  }
  return await withLargeBody(
    () => request.socket.destroy(),
    async () => {
      const { value } = (await body.next()) as { readonly value: Buffer };
      const isOptional = options.optional === true;
      const task = { name, bytes: value, version: version.text, isOptional };
      const { fields, warnings } = await convertInThread(task);
      return { fields: fieldsFromBytes(fields), warnings };
    },
  );
}
