/** The worker thread that parses, converts and encodes large bodies. */
import { create, type DescMessage, toBinary } from "@bufbuild/protobuf";

import { toErrorData } from "../../common/errors.ts";
import { ApiVersion } from "../api-version.ts";
import { parseJsonBody } from "../http/json-body.ts";
import { checkComplexity } from "./complexity.ts";
import { type Conversion, conversions } from "./conversions.ts";
import type { ConversionOutcome, ConversionTask } from "./large-bodies.ts";

/** Converts one body. */
export function convertBody({ name, bytes, version, isOptional }: ConversionTask): ConversionOutcome {
  try {
    const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    checkComplexity(body);
    const { schema, convert } = conversions[name] as Conversion as Conversion<DescMessage>;
    const parsed = parseJsonBody(body, { optional: isOptional });
    const { fields, warnings } = convert(parsed, new ApiVersion(version));
    return { fields: toBinary(schema, create(schema, fields)), warnings };
  } catch (error) {
    return { error: toErrorData(error) };
  }
}
