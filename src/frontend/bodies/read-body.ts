/** From a request's JSON body to the fields of the backend's request. */
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
import type { ReplyContext } from "../request-context.ts";
import { fieldsFromBytes } from "./encoded-fields.ts";
import { convertInThread, LargeBodies } from "./large-bodies.ts";

/** Bytes of all large bodies of one kind, so that slow answers to some hold up no others. */
const bytesOfKind = 32 * 1024 * 1024;

/** Longer bodies hold up no shorter ones, however long their calls take. */
const longBodyBytes = 64 * 1024;

const largeBodies = new Map<string, LargeBodies>();

/**
 * Reads and converts the body: a small one here, a large one in a worker thread that returns encoded fields.
 *
 * @throws SockerlessError of kind `invalid` in dockerd's words
 */
export async function readBody<Name extends ConversionName>(
  { request, version, held }: Pick<ReplyContext, "request" | "version" | "held">,
  name: Name,
  options: JsonBodyOptions = {},
): Promise<Converted<ConvertedSchema<Name>>> {
  if (options.anyContentType !== true) {
    checkJsonContentType(request);
  }
  const { bytes, memory } = await readBoundedBody(request, async (length) =>
    held.use(await largeBodiesOf(name, length).enter(length, () => request.socket.destroy())),
  );
  if (memory === undefined) {
    const { convert } = conversions[name] as unknown as Conversion<ConvertedSchema<Name>>;
    return convert(parseJsonBody(bytes, options), version);
  }
  const isOptional = options.optional === true;
  const { fields, warnings } = await convertInThread({ name, bytes, version: version.text, isOptional });
  // They take memory until the backend has answered, whether or not the client has left.
  memory.complete(fields.length);
  return { fields: fieldsFromBytes(fields), warnings };
}

function largeBodiesOf(name: ConversionName, length: number): LargeBodies {
  const key = `${name} ${length > longBodyBytes ? "long" : "short"}`;
  return largeBodies.getOrInsertComputed(key, () => new LargeBodies(bytesOfKind));
}
