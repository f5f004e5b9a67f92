/** Fields of a backend's request that another thread has encoded already. */
import {
  create,
  type DescMessage,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";

const encodedFields = Symbol("fields that are encoded already");

interface WithEncodedFields {
  readonly [encodedFields]?: Uint8Array;
}

/** Stands for fields among those of a message; it can be spread into others. */
export function fieldsFromBytes<Desc extends DescMessage>(bytes: Uint8Array): MessageInitShape<Desc> {
  return { [encodedFields]: bytes } as unknown as MessageInitShape<Desc>;
}

/** Encodes a message whose fields may be encoded in part: two encoded halves of a message, one behind the other, are one. */
export function encodeMessage<Desc extends DescMessage>(
  schema: Desc,
  input: MessageInitShape<Desc>,
): Uint8Array {
  const message: MessageShape<Desc> = create(schema, input);
  const bytes = toBinary(schema, message);
  const encoded = (input as WithEncodedFields)[encodedFields];
  return encoded === undefined ? bytes : Buffer.concat([bytes, encoded]);
}
