/** From a request's JSON body to the fields of the backend's request. */
import { ByteBudget } from "../../common/byte-budget.ts";
import { TooManyRequests } from "../admission.ts";
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

/** Bytes of all large bodies that are read and converted. */
const readBytes = 32 * 1024 * 1024;

/** Bytes of all converted bodies whose calls are under way, apart from {@link sureBytes} of each. */
const keptBytes = 64 * 1024 * 1024;

/** Bytes of a converted body that always have room. */
const sureBytes = 32 * 1024;

const largeBodies = new LargeBodies(readBytes);
const kept = new ByteBudget(keptBytes);

/**
 * Reads and converts the body: a small one here, a large one in a worker thread that returns encoded fields.
 *
 * @throws SockerlessError of kind `invalid` in dockerd's words, or TooManyRequests
 */
export async function readBody<Name extends ConversionName>(
  { request, version, held }: Pick<ReplyContext, "request" | "version" | "held">,
  name: Name,
  options: JsonBodyOptions = {},
): Promise<Converted<ConvertedSchema<Name>>> {
  if (options.anyContentType !== true) {
    checkJsonContentType(request);
  }
  using reading = new DisposableStack();
  const { bytes, memory } = await readBoundedBody(request, async (length) =>
    reading.use(await largeBodies.enter(length, () => request.socket.destroy())),
  );
  if (memory === undefined) {
    const { convert } = conversions[name] as unknown as Conversion<ConvertedSchema<Name>>;
    return convert(parseJsonBody(bytes, options), version);
  }
  const isOptional = options.optional === true;
  const { fields, warnings } = await convertInThread({ name, bytes, version: version.text, isOptional });
  keep(fields.length, held);
  return { fields: fieldsFromBytes(fields), warnings };
}

/** Counts a converted body until its call has ended, which may be long after its client has left. */
function keep(bytes: number, held: DisposableStack): void {
  if (bytes > kept.share(sureBytes, keptBytes)) {
    throw new TooManyRequests("too many large bodies of requests are under way");
  }
  kept.take(bytes);
  held.defer(() => kept.give(bytes));
}
