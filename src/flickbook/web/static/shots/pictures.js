// Pictures of the shot list, kept in the browser's database so that a reload does not lose them.

const NAME = "flickbook", STORE = "pictures";

function open() {
  return new Promise((done, failed) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
  });
}

async function run(mode, act) {
  const database = await open();
  try {
    return await new Promise((done, failed) => {
      const transaction = database.transaction(STORE, mode);
      const request = act(transaction.objectStore(STORE));
      transaction.oncomplete = () => done(request.result);
      transaction.onerror = transaction.onabort = () => failed(transaction.error);
    });
  } finally {
    database.close();
  }
}

/** Keeps a file under a key. Without a database it stays in the page only. */
export async function keep(key, file) {
  await run("readwrite", (store) => store.put(file, key)).catch(() => {});
}

/** The kept files of these keys, as pairs; all others whose keys begin with `owner` are removed. */
export async function kept(owner, keys) {
  try {
    const stored = (await run("readonly", (store) => store.getAllKeys())).filter((key) => key.startsWith(owner));
    for (const key of stored) if (!keys.includes(key)) await run("readwrite", (store) => store.delete(key));
    const found = stored.filter((key) => keys.includes(key));
    return await Promise.all(found.map(async (key) => [key, await run("readonly", (store) => store.get(key))]));
  } catch {
    return [];
  }
}

