// Nodes of ours that stand among Chainlit's. React knows nothing of them and may throw them out with what is around
// them, so they are put back.
const kept = [];

const look = () =>
  kept.forEach(({ node, put }) => {
    if (!node.isConnected) put();
  });

// `put` puts the node in its place, if that is on the page now.
export const keep = (node, put) => {
  kept.push({ node, put });
  look();
};

new MutationObserver(look).observe(document.body, { childList: true, subtree: true });
