// After signing in the page goes on with the conversation that it was sent away from, not with a new one.

const KEPT = 'return-to';
const SIGN_IN = '/login';
const CONVERSATION = /^\/thread\/[\w-]+$/;

if (location.pathname === SIGN_IN && document.referrer.startsWith(`${location.origin}/`)) {
  const from = new URL(document.referrer).pathname;
  if (CONVERSATION.test(from)) sessionStorage.setItem(KEPT, from);
}

// Chainlit's router goes to the start, whether one has signed in here or comes back from a provider.
const pushState = history.pushState.bind(history);
history.pushState = (state, unused, url) => {
  const wanted = sessionStorage.getItem(KEPT);
  const signedIn = location.pathname.startsWith(SIGN_IN) && url && new URL(url, location).pathname === '/';
  pushState(state, unused, url);
  if (wanted && signedIn) {
    sessionStorage.removeItem(KEPT);
    location.replace(wanted);
  }
};
