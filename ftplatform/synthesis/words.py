"""A small list of everyday English words, the yardstick of the out-of-vocabulary rate of short requests.

Function words, numbers, common verbs and the nouns people use when they ask for something. It is kept small on purpose: the rate
compares two samples, and what matters is that a typo, a handle or an order number is on neither side's list.
"""

from __future__ import annotations

_FUNCTION = """
a about above across after again against all almost alone along already also although always am among an and another any anybody
anyone anything anyway anywhere are around as at away back be became because become been before behind being below between both
but by can cannot could did do does doing done down during each either else enough even ever every everybody everyone everything
everywhere few for from further had has have having he her here hers herself him himself his how however i if in instead into is
it its itself just least less like lot many may maybe me might mine more most much must my myself near need neither never next
no nobody none nor not nothing now nowhere of off often on once one only onto or other others our ours ourselves out over own
perhaps quite rather really same shall she should since so some somebody someone something sometimes somewhere soon still such
than that the their theirs them themselves then there these they thing things this those though through to together too toward
towards under unless until up upon us very was we well were what whatever when whenever where whether which while who whole whom
whose why will with within without would yes yet you your yours yourself
"""
_CONTRACTED = "don t s m re ve ll d isn aren wasn weren doesn didn hasn haven hadn won wouldn couldn shouldn"
_NUMBERS = """
zero two three four five six seven eight nine ten eleven twelve twenty thirty fifty hundred thousand million first second third
last half dozen single double couple
"""
_TIME = """
today tomorrow yesterday tonight morning afternoon evening night day days week weeks weekend month months year years hour hours
minute minutes moment time times date monday tuesday wednesday thursday friday saturday sunday january february march april june
july august september october november december ago early earlier late later recently currently immediately
"""
_VERBS = """
accept accepted access activate activated add added agree allow allowed answer apply applied arrive arrived ask asked asking
assist book booked booking break bring broke broken build buy call called came cancel canceled cancelled cannot care carry cause
change changed changes changing charge charged check checked checking choose choosing claim clear close closed come comes coming
complete completed confirm confirmed connect contact contacted cost costs count cover create created cut deal decide declined
delete deleted deliver delivered deposit describe die drive drop eat edit enable end enter exchange expect expected expired
explain fail failed fall feel figure file fill find finish fix follow forget forgot found gave get gets getting give given gives
giving go goes going gone got guess happen happened happening happens hear heard held help helped helping hold hope ignore
include included increase inform install keep keeps knew know known knows lead learn leave leaving left let link list live load
locked log logged look looked looking lose lost love made mail make makes making manage mean means meet mention miss missing
modify move moved open opened order ordered ordering paid pass pay paying pick place placed plan play point prefer prepare
prevent print process provide pull purchase purchased push put question reach read receive received receiving recommend recover
reduce refuse register registered remember remove removed rent repair replace reply report request requested require required
reset resolve respond return returned returning review run running said save saw say saying says schedule see seem seems seen
sell send sending sent set share ship shipped show shows sign signed sit sleep sold solve sort speak spend spent stand start
started stay stolen stop stopped store stuck submit suggest supposed switch take taken takes taking talk tell tells test thank
thanks think thought told took top track transfer transferred travel tried try trying turn turned understand unlock update
updated upgrade use used using verify view visit wait waiting walk want wanted wants watch went withdraw withdrawal withdrew
wonder wondering work worked working works worry write wrote
"""
_NOUNS = """
account accounts address agent airport amount app application area atm baby bag balance bank bill billing birthday body book box
branch brother business car card cards case cash cat center chance check child children city code color company complaint
computer confirmation contract copy country credit currency customer data daughter debit delivery department desk details device
difference dinner discount doctor document dog dollar dollars door driver email emails employee error event exchange eye face
family fee fees file flight flights food form friend friends fund funds game gas gift girl group guy guys hand hands head health
help home hospital hotel house id idea identity image info information insurance internet invoice issue issues item items job
kid kids kind lady language law letter level life limit line loan location lunch machine man manager meal meaning meeting member
menu message method mind mobile money mother movie name names network news newsletter note notice number numbers offer office
online option options package page paper parents part party passcode passenger passport password payment payments people person
phone phones photo picture pin place plane plans plate please point policy power premium price prices problem problems product
products profile program purpose rate rates reason receipt recipe record refund refunds rent report reservation rest restaurant
result room rules salary sale school seat seats security service services shipment shipping shop side sir size song sort source
statement status step steps store story street student subscription support system table tax taxes team telephone terms ticket
tickets tool total tracking traffic train transaction transactions transfer trip trouble truck tv type user username vacation
value vehicle version video visa voice wallet warranty water way weather website wife window woman women word words world
"""
_QUALITIES = """
able actual additional alright angry annoyed available bad best better big black blue busy cheap clear close cold common
complete confused correct current damaged dear different difficult direct disappointed due easy empty entire exact extra false
fast fine foreign free full fun good great green happy hard hey hi hello high hot hungry important incorrect international large
left legal little local long low main major married medical minimum missing national new nice normal ok okay old online open
original personal physical poor possible previous private quick quickly ready real recent red regular right sad safe secure sick
similar simple slow small sorry special specific strange sure sweet terrible tired top true twice unable unauthorized unhappy
unknown upset urgent usual valid virtual warm weird white wrong young actually basically certainly definitely especially exactly
finally generally hopefully kindly probably simply suddenly totally unfortunately usually
"""
_COURTESY = """
able advance afternoon appreciate appreciated appreciation assist assistance attention day dear do does done evening favor find finds
forward glad grateful greetings hear hearing hello help helping hey hi hope hoping kind know let look looking madam matter message
morning obliged patience please pleased regarding regards reply response see sincerely sir support sure team tell thank thanks time
understand wish wishes wondering would writing yours
"""

#: What politeness is made of, in whatever order.
COURTESY_WORDS: frozenset[str] = frozenset(_COURTESY.split())
#: Words that say nothing about the topic: grammar, numbers, time, judgment.
TOPICLESS_WORDS: frozenset[str] = frozenset(
    word for block in (_FUNCTION, _CONTRACTED, _NUMBERS, _TIME, _QUALITIES) for word in block.split()
)
#: Lower-case words; contractions appear as the pieces a split at the apostrophe leaves.
COMMON_WORDS: frozenset[str] = frozenset(
    word for block in (_FUNCTION, _CONTRACTED, _NUMBERS, _TIME, _VERBS, _NOUNS, _QUALITIES) for word in block.split()
)
