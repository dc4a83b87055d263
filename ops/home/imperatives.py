"""Which sentences are commands that begin with their verb: only they may follow "could you" or "then"."""

from __future__ import annotations

from typing import Final


def words(text: str) -> frozenset[str]:
    """The words of `text`."""
    return frozenset(text.split())


# First words of commands in the templates; of the ambiguous ones the next word decides.
_VERBS: Final = words("""
    abort activate add adjust advance alert allow alter announce append apply arm ask attach axe bake
    banish bathe beam begin block boost boot brief brighten bring broadcast bump bung buy cancel cast
    catch change chase check choose chuck clip commence configure confirm connect continue convey count
    crank create cross cue cut darken deactivate decrease deduct defrost delay delete deliver deploy
    disable disarm discard disconnect disengage dismiss dispatch display disregard ditch douse draw
    drench drive drop dump dye ease eliminate enable end engage ensure enter entertain erase exclude
    execute expand extend extinguish fetch fill find finish flick fling flip flood fold forget freeze
    freshen get give grab guide halt hand hang hit hoist hold hop hush ignite ignore illuminate include
    increase inform initiate insert intensify interrupt invoke isolate jot keep kick kill kindle knock
    latch launch leave lengthen let lift limit liven load locate lop lose lower maintain make mellow
    minimise move mow mute name nix notch notify nudge nuke open operate order paint park pause perform
    pick pluck plug plunge pop postpone preheat press proclaim program prolong pull punch purchase purge
    push put queue quieten quit raise ramp reactivate read recall recharge record reduce register
    regulate relay release relock remember remind remove reopen repeat replace replay report reset
    restart restock restore resume retract return reverse rewind ring roll run save say schedule scrap
    scratch scribble search secure select send serve set shave shift shoot shorten show shrink shuffle
    shush shut silence skip slam slap slide sling slow snuff soften soothe sort spin start stick stop
    stow stream stretch strike strip subdue subtract summarise suspend swap sweep swing switch take tell
    terminate thaw throttle throw toggle toss transform transition transmit trigger trim turn unbar
    unblock unbolt undim undo undraw unfreeze unlatch unleash unlock unmute unpause unplug unroll
    unscrew update use ventilate verify wake warn whack wind wipe withdraw write yank yell zap
""")
# Names of things and states too: "light up the hall" is a command, "light in the hall" is not.
_AMBIGUOUS: Final = words("""
    air bin blast blow bolt call charge clean clear click close cool dial dim direct dock fade fire fix
    heat help hoover jump key light lock log look mark mist order page pass play post power pump rest
    rev screw seal shade share shed shine sing slip sound speed step supply test text tick tidy time
    tint tone tune type vacuum warm wash watch water
""")
_OBJECTS: Final = words("""
    a all an another any both down each every everything her him it me my our some that the them these
    this those up us whatever your
""")
# "Have we locked up" asks.
_SUBJECTS: Final = frozenset({"i", "we", "you", "they", "he", "she", "it"})


def is_imperative(text: str) -> bool:
    """Whether `text` is a command whose verb comes first, as in "turn the lights off"."""
    first, second = [*text.lower().split(), "", ""][:2]
    if first == "have":
        return second not in _SUBJECTS
    return first in _VERBS or (first in _AMBIGUOUS and second in _OBJECTS)
