/** Fields of a backend's request that another thread has encoded already. */
import {
  create,
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
  type UnknownField,
} from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";

/** Stands for fields among those of a message; it can be spread into others. */
export function fieldsFromBytes<Desc extends DescMessage>(bytes: Uint8Array): MessageInitShape<Desc> {
  const reader = new BinaryReader(bytes);
  if (reader.len === 0) {
    return {} as MessageInitShape<Desc>;
  }
  // The first field's tag, and everything behind that as its value: two halves of a message, one behind the other, are one.
  const [no, wireType] = reader.tag();
  const $unknown: UnknownField[] = [{ no, wireType, data: bytes.subarray(reader.pos) }];
  return { $unknown } as unknown as MessageInitShape<Desc>;
}

/** A request of fields of which some may be encoded already: the encoder writes those as they are, behind the others. */
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
