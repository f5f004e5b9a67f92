/** From a request's JSON body to the fields of the backend's request. */
import type { IncomingMessage } from "node:http";

import type { ApiVersion } from "../api-version.ts";
import {
  checkJsonContentType,
  type JsonBodyOptions,
  parseJsonBodyInTurn,
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
import { convertInThread, LargeBodies } from "./large-bodies.ts";

const largeBodies = new LargeBodies(128 * 1024 * 1024);

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
  using held = new DisposableStack();
  const { bytes, isLarge } = await readBoundedBody(request, async (length) =>
    held.use(await largeBodies.enter(length, () => request.socket.destroy())),
  );
  if (!isLarge) {
    const { convert } = conversions[name] as unknown as Conversion<ConvertedSchema<Name>>;
    return convert(await parseJsonBodyInTurn(bytes, options), version);
  }
  const isOptional = options.optional === true;
  const { fields, warnings } = await convertInThread({ name, bytes, version: version.text, isOptional });
  return { fields: fieldsFromBytes(fields), warnings };
}
