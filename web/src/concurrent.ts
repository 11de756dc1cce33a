/**
 * What `run` makes of each item, in the items' order, with at most `most` of them under way. Where one fails, the others are aborted,
 * and its error is thrown.
 */
export async function concurrently<Item, Result>(
  items: readonly Item[],
  most: number,
  signal: AbortSignal | undefined,
  run: (item: Item, signal: AbortSignal, at: number) => Promise<Result>,
): Promise<Result[]> {
  const failed = new AbortController();
  const either = signal ? AbortSignal.any([signal, failed.signal]) : failed.signal;
  const results: Result[] = [];
  const left = items.entries();
  const runner = async () => {
    // all runners take from one iterator
    for (const [at, item] of left) results[at] = await run(item, either, at);
  };
  try {
    await Promise.all(Array.from({ length: Math.min(most, items.length) }, runner));
    return results;
  } catch (error) {
    failed.abort();
    throw error;
  }
}
