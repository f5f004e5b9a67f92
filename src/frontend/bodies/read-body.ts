/** From a request's JSON body to the fields of the backend's request. */
import { finished } from "node:stream";

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
import type { ReplyContext } from "../request-context.ts";
import { fieldsFromBytes } from "./encoded-fields.ts";
import { convertInThread, LargeBodies } from "./large-bodies.ts";

const largeBodies = new LargeBodies(128 * 1024 * 1024);

/**
 * Reads and converts the body: a small one here, a large one in a worker thread that returns encoded fields.
 *
 * @throws SockerlessError of kind `invalid` in dockerd's words
 */
export async function readBody<Name extends ConversionName>(
  { request, response, version }: Pick<ReplyContext, "request" | "response" | "version">,
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
  // It takes memory until the backend has it, and has answered.
  const answered = held.move();
  finished(response, () => answered.dispose());
  return { fields: fieldsFromBytes(fields), warnings };
}
