// Chainlit's copy buttons, put right in two ways:
// - they copy the reply's HTML with the status line in it, which belongs to the page and not to the text;
// - they need a secure context, so over plain http from another machine they fail with "ClipboardItem is not defined".
const PAGE_ONLY = '[data-testid="reply-status"]';

const replyOnly = (html) => {
  const parsed = new DOMParser().parseFromString(html, 'text/html');
  parsed.querySelectorAll(PAGE_ONLY).forEach((node) => node.remove());
  return parsed.body.innerHTML;
};

// A ClipboardItem's texts by their type.
const textsOf = async (item) => {
  const texts = {};
  for (const type of item.types) texts[type] = await (await item.getType(type)).text();
  if (texts['text/html']) texts['text/html'] = replyOnly(texts['text/html']);
  return texts;
};

// The way of copying that works without a secure context.
const copyByCommand = (texts) => {
  const fillIn = (event) => {
    event.preventDefault();
    event.stopImmediatePropagation();
    Object.entries(texts).forEach(([type, value]) => event.clipboardData.setData(type, value));
  };
  document.addEventListener('copy', fillIn, { capture: true });
  const copied = document.execCommand('copy');
  document.removeEventListener('copy', fillIn, { capture: true });
  if (!copied) throw new Error('the browser does not allow it');
};

if (navigator.clipboard) {
  const write = navigator.clipboard.write.bind(navigator.clipboard);
  navigator.clipboard.write = (items) => {
    const cleaned = items.map((item) => {
      // Promises, because a browser wants `write` called within the click.
      const texts = textsOf(item);
      const blobs = item.types.map((type) => [type, texts.then((all) => new Blob([all[type]], { type }))]);
      return new ClipboardItem(Object.fromEntries(blobs));
    });
    return write(cleaned);
  };
} else {
  window.ClipboardItem = class {
    constructor(blobs) {
      this.blobs = blobs;
      this.types = Object.keys(blobs);
    }

    async getType(type) {
      return this.blobs[type];
    }
  };
  Object.defineProperty(navigator, 'clipboard', {
    value: {
      write: async (items) => copyByCommand(await textsOf(items[0])),
      writeText: async (value) => copyByCommand({ 'text/plain': value }),
    },
  });
}
