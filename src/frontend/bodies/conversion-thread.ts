/** The worker thread that parses, converts and encodes one large body, and then exits. */
import { parentPort, workerData } from "node:worker_threads";

import { create, type DescMessage, toBinary } from "@bufbuild/protobuf";

import { toErrorData } from "../../common/errors.ts";
import { ApiVersion } from "../api-version.ts";
import { parseJsonBody } from "../http/json-body.ts";
import { checkComplexity } from "./complexity.ts";
import { type Conversion, conversions } from "./conversions.ts";
import type { ConversionOutcome, ConversionTask } from "./large-bodies.ts";

const { name, bytes, version, isOptional } = workerData as ConversionTask;

parentPort?.postMessage(outcome());

function outcome(): ConversionOutcome {
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
