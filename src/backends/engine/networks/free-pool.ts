/** Creates a driver's network in an address pool that stays free meanwhile. */
import { isErrorKind } from "../../../common/errors.ts";
import type { IpamPool } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import type { NetworkRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { NetworkFabric } from "../../driver/networks.ts";

/** A created network. */
export interface MadeNetwork {
  /** With its pool. */
  readonly record: NetworkRecord;
  /** The driver's data. */
  readonly reference: string;
}

/**
 * Has the driver create a network. If its automatically chosen pool turns out to be in use, perhaps by another instance
 * on the same machine, another one is chosen.
 *
 * @param choose chooses and journals another pool
 * @throws the errors of the driver and of `choose`
 */
export async function makeInFreePool(
  networks: Pick<NetworkFabric, "ensure">,
  planned: NetworkRecord,
  choose: (planned: NetworkRecord, refused: readonly string[]) => Promise<NetworkRecord>,
): Promise<MadeNetwork> {
  const refused: string[] = [];
  let record = planned;
  for (;;) {
    try {
      return { record, reference: await networks.ensure(record) };
    } catch (error) {
      const pool = record.network?.pools[0];
      if (!isErrorKind(error, "conflict") || pool === undefined || pool.configured) {
        throw error;
      }
      refused.push(pool.subnet);
    }
    record = await choose(record, refused);
  }
}

/** The network with another pool. */
export function withPool(record: NetworkRecord, pool: IpamPool): NetworkRecord {
  return record.network === undefined ? record : { ...record, network: { ...record.network, pools: [pool] } };
}
