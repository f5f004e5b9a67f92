/** Fields of a backend's request that another thread has encoded. */
import {
  create,
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
  type UnknownField,
} from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";

/** Stands for encoded fields among those of a message; can be spread into others. */
export function fieldsFromBytes<Desc extends DescMessage>(bytes: Uint8Array): MessageInitShape<Desc> {
  const reader = new BinaryReader(bytes);
  if (reader.len === 0) {
    return {} as MessageInitShape<Desc>;
  }
  // The first field's tag, with everything after it as the value: concatenated protobuf messages merge into one.
  const [no, wireType] = reader.tag();
  const $unknown: UnknownField[] = [{ no, wireType, data: bytes.subarray(reader.pos) }];
  return { $unknown } as unknown as MessageInitShape<Desc>;
}

/** True if some fields are encoded, as those of large bodies are. */
export function hasEncodedFields(fields: object): boolean {
  return "$unknown" in fields && fields.$unknown !== undefined;
}

/** Creates a request whose fields may partly be encoded: the encoder appends those as they are. */
export function requestOf<Desc extends DescMessage>(
  schema: Desc,
  fields: MessageInitShape<Desc>,
): MessageShape<Desc> {
  const message: MessageShape<Desc> = create(schema, fields);
  const { $unknown } = fields as { readonly $unknown?: UnknownField[] };
  if ($unknown !== undefined) {
    message.$unknown = $unknown;
  }
  return message;
}
